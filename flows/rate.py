"""`regionwise rate`: simulated raters' answers to a run's candidates, into its annotation store."""

import time
from collections import Counter
from pathlib import Path

from annotation.client import AnnotationClient, Task
from annotation.raters.simulated import Rater, SimulatedClient, panel
from annotation.snapshots import check_snapshot_name
from annotation.store import AnnotationStore, open_store, store_path
from flows.facts import show_facts
from flows.run_tasks import n_kept, oracle_score, rating_tasks, read_gated
from pipeline.run.folder import read_kept
from runtime.disk import require_room
from schemas.errors import BadInput
from schemas.manifest import BuildInfo
from schemas.record import canonical_json

#: A store of answers to small images takes half as much again; what is needed at least is asked for beforehand.
ANSWER_BYTES, LEAST_BYTES = 1_000, 65_536


def rate_run(run: Path, snapshot: str, numbers: tuple[int, int, int, int], seed: int, as_json: bool) -> None:
    """Simulated raters rate every kept candidate that the oracle scored, part by part, and the result gets a name.

    numbers: steady, random, copying and bimodal raters. Started again it adds only what is missing; a snapshot that
    these raters made stays as it is. Raises: BadInput where the run is not through the gates, no candidate has the
    oracle's scores, or the snapshot's name is taken by other raters; RegionwiseError where the disk has no room
    for the answers.
    """
    started = time.monotonic()
    info = read_gated(run)
    check_snapshot_name(snapshot)
    n_steady, n_random, n_copying, n_bimodal = numbers
    raters = panel(n_steady, n_random=n_random, n_copying=n_copying, n_bimodal=n_bimodal, seed=seed)
    origin = canonical_json([rater.name for rater in raters]).decode()
    _check_scored(run, info)
    with open_store(store_path(run), create=True) as store:
        taken = store.find_snapshot(snapshot)
        if taken and taken.origin != origin:
            raise BadInput(f"snapshot {snapshot}", "exists and is of other raters", "give another --snapshot")
        if not taken:
            require_room(store_path(run), _answers_bytes(n_kept(run, info) * len(raters) - store.count()))
        counts = Counter[str]() if taken else _rate_parts(run, info, raters, store)
        named = taken or store.take_snapshot(snapshot, origin)
        annotations = store.count(named.high_water)
    facts = {
        "snapshot": named.name,
        "annotations": annotations,
        "new": counts["new"],
        "tasks": counts["tasks"],
        "without_truth": counts["without_truth"],
        "raters": [rater.name for rater in raters],
        "synthetic": True,
        "seconds": round(time.monotonic() - started, 2),
    }
    show_facts(facts, as_json)


def _answers_bytes(n_answers: int) -> int:
    """What the store grows by at least with so many answers more."""
    return LEAST_BYTES + ANSWER_BYTES * max(n_answers, 0)


def _rate_parts(run: Path, info: BuildInfo, raters: tuple[Rater, ...], store: AnnotationStore) -> Counter[str]:
    """All raters rate every part; counts tasks, new annotations, and candidates without the oracle's scores."""
    counts = Counter[str]()
    first = 0
    for part in range(info.n_parts):
        samples = list(read_kept(run, "gates", part))
        truths = {score.candidate: score for sample in samples if (score := oracle_score(sample))}
        tasks = [task for task in rating_tasks(samples, first) if task.candidate in truths]
        new = _ask(SimulatedClient(raters, truths), store, tasks)
        counts.update(tasks=len(tasks), new=new, without_truth=len(samples) - len(tasks))
        first += len(samples)
    return counts


def _check_scored(run: Path, info: BuildInfo) -> None:
    """Raises: BadInput, before anything is written, where simulated raters would have nothing to hear."""
    if not any(oracle_score(sample) for part in range(info.n_parts) for sample in read_kept(run, "gates", part)):
        fault = "has no candidate with the oracle's scores, which simulated raters hear"
        raise BadInput(str(run), fault, "build from requests that the procedural editor edits")


def _ask(client: AnnotationClient[Task], store: AnnotationStore, tasks: list[Task]) -> int:
    """Sends tasks, noted before and after, pulls all answers into the store, and returns how many are new."""
    candidates = [task.candidate for task in tasks]
    store.intend(client.project, candidates)
    store.place(client.project, zip(candidates, client.push(tasks), strict=True))
    new, cursor, more = 0, None, True
    while more:
        page = client.pull(cursor)
        new += store.add(page.annotations)
        cursor, more = page.cursor, page.more
    return new
