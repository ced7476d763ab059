"""What the commands about people do: raters' answers into a run's annotation store, and a snapshot into a consensus."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from annotation.client import AnnotationClient, Task, TaskRegion
from annotation.raters.agreement import measure_agreement
from annotation.raters.consensus import METHODS, consensus, current, fit_panel, method_of
from annotation.raters.gold import GOLD_FILE, gold_answers, gold_summary, read_gold
from annotation.raters.simulated import Rater, SimulatedClient, panel
from annotation.store import AnnotationStore, check_snapshot_name, open_store, store_path
from annotation.studio.rankings import rank_consensus
from pipeline.dataset.consensus_files import AGREEMENT_FILE, RANKINGS_FILE, consensus_stage, write_consensus
from pipeline.dataset.scores import ORACLE
from pipeline.run.folder import read_build_info, read_done, read_kept
from runtime.files import write_whole
from runtime.locks import locked
from schemas.agreement import GoldSummary
from schemas.errors import BadInput
from schemas.manifest import BuildInfo
from schemas.record import canonical_json
from schemas.sample import Sample
from schemas.score import Annotation, CandidateScore

#: From so many candidates the raters and their agreement are known; more would hardly move either.
FIT_CANDIDATES = 20_000


def rate_run(run: Path, snapshot: str, numbers: tuple[int, int, int, int], seed: int, as_json: bool) -> None:
    """Simulated raters rate every kept candidate that the oracle scored, part by part, and the result gets a name.

    numbers: steady, random, copying and bimodal raters. Started again it adds only what is missing; a snapshot that
    these raters made stays as it is. Raises: BadInput where the run is not through the gates, no candidate has the
    oracle's scores, or the snapshot's name is taken by other raters.
    """
    started = time.monotonic()
    info = gated(run)
    check_snapshot_name(snapshot)
    n_steady, n_random, n_copying, n_bimodal = numbers
    raters = panel(n_steady, n_random=n_random, n_copying=n_copying, n_bimodal=n_bimodal, seed=seed)
    origin = canonical_json([rater.name for rater in raters]).decode()
    _check_scored(run, info)
    with open_store(store_path(run), create=True) as store:
        taken = store.find_snapshot(snapshot)
        if taken and taken.origin != origin:
            raise BadInput(f"snapshot {snapshot}", "exists and is of other raters", "give another --snapshot")
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
    show(facts, as_json)


def _rate_parts(run: Path, info: BuildInfo, raters: tuple[Rater, ...], store: AnnotationStore) -> Counter[str]:
    """All raters rate every part; counts tasks, new annotations, and candidates without the oracle's scores."""
    counts = Counter[str]()
    first = 0
    for part in range(info.n_parts):
        samples = list(read_kept(run, "gates", part))
        truths = {score.candidate: score for sample in samples if (score := oracle_score(sample))}
        tasks = [task for task in tasks_of(samples, first) if task.candidate in truths]
        new = _ask(SimulatedClient(raters, truths), store, tasks)
        counts.update(tasks=len(tasks), new=new, without_truth=len(samples) - len(tasks))
        first += len(samples)
    return counts


def gated(run: Path) -> BuildInfo:
    """The run's facts. Raises: BadInput where a part is not through the gates."""
    info = read_build_info(run)
    missing = [part for part in range(info.n_parts) if read_done(run, "gates", part) is None]
    if missing:
        fault = f"has {len(missing)} of {info.n_parts} parts that are not through the gates"
        raise BadInput(str(run), fault, "finish it with `regionwise resume`")
    return info


def _check_scored(run: Path, info: BuildInfo) -> None:
    """Raises: BadInput, before anything is written, where simulated raters would have nothing to hear."""
    if not any(oracle_score(sample) for part in range(info.n_parts) for sample in read_kept(run, "gates", part)):
        fault = "has no candidate with the oracle's scores, which simulated raters hear"
        raise BadInput(str(run), fault, "build from requests that the procedural editor edits")


def oracle_score(sample: Sample) -> CandidateScore | None:
    """What the oracle says of a kept sample, None where it says nothing."""
    return next((score for score in sample.scores if score.rater.startswith(f"{ORACLE}:")), None)


def tasks_of(samples: list[Sample], first: int) -> Iterator[Task]:
    """The task of every sample; the first one's index is `first`."""
    for index, sample in enumerate(samples, first):
        if sample.candidate is None or sample.edited is None:
            raise ValueError(f"{sample.key} has no candidate")
        planned = {region.id: region for region in sample.planned}
        named = [(mask, planned.get(mask.region)) for mask in sample.observed]
        yield Task(
            candidate=sample.candidate.id,
            index=index,
            instruction=sample.request.instruction,
            sources=sample.sources,
            edited=sample.edited,
            size_hw=(sample.candidate.height_px, sample.candidate.width_px),
            regions=tuple(
                TaskRegion(
                    label=region.label if region else "changed but not named",
                    role=region.role if region else None,
                    mask=mask,
                )
                for mask, region in named
            ),
        )


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


def consensus_run(run: Path, snapshot: str, as_json: bool, method: str = METHODS[0]) -> None:
    """Writes the consensus of a snapshot part by part, and beside it how far its raters agree and how they ranked.

    The raters are known from up to `FIT_CANDIDATES` candidates, those of the lowest ids, which say nothing of them.
    Parts that are there, whole and the same stay. Raises: BadInput where the run has no annotations or not that
    snapshot.
    """
    started = time.monotonic()
    info = gated(run)
    with locked(run), open_store(store_path(run)) as store:
        known = store.snapshot(snapshot)
        annotations = store.count(known.high_water)
        sources = _sources(run, info)
        chosen = sorted(sources.keys() & store.rated(known.high_water))
        standing = {
            candidate: found
            for candidate in chosen[:FIT_CANDIDATES]
            if (found := _standing(store, candidate, known.high_water))
        }
        panel_model = fit_panel(standing)
        model = panel_model if method == METHODS[0] else None
        kept = unrated = synthetic = 0
        for part in range(info.n_parts):
            candidates = [sample.candidate.id for sample in read_kept(run, "gates", part) if sample.candidate]
            rated = (standing.get(one) or _standing(store, one, known.high_water) for one in candidates)
            rows = [consensus(annotated, snapshot, model) for annotated in rated if annotated]
            done = write_consensus(run, snapshot, part, rows, len(candidates))
            kept, unrated = kept + done.kept, unrated + sum(done.rejected.values())
            synthetic += sum(row.synthetic for row in rows)
        gold = _gold_summaries(run, store, known.high_water)
        rankings = (current(store.rankings(one, known.rankings)) for one in sorted(store.ranked(known.rankings)))
        ranked = [rank_consensus(standing_rankings, snapshot) for standing_rankings in rankings if standing_rankings]
    agreement = measure_agreement(
        standing, snapshot, method_of(model), panel_model, sources=sources, n_candidates=kept, gold=gold
    )
    folder = run / consensus_stage(snapshot)
    write_whole(folder / AGREEMENT_FILE, agreement.model_dump_json(indent=1) + "\n")
    if ranked:
        write_whole(folder / RANKINGS_FILE, "".join(row.model_dump_json() + "\n" for row in ranked))
    facts = {
        "snapshot": snapshot,
        "consensus": str(folder),
        "annotations": annotations,
        "candidates": kept,
        "not_rated": unrated,
        "ranked_requests": len(ranked),
        "synthetic": synthetic,
        "method": method_of(model),
        "alpha": {row.dimension: row.alpha.value for row in agreement.dimensions},
        "seconds": round(time.monotonic() - started, 2),
    }
    show(facts, as_json)


def _standing(store: AnnotationStore, candidate: str, high_water: int) -> list[Annotation]:
    return current(store.annotations(candidate, high_water))


def _gold_summaries(run: Path, store: AnnotationStore, high_water: int) -> list[GoldSummary]:
    """What every rater answered to the gold that was mixed in, none where none was."""
    path = run / GOLD_FILE
    known = read_gold(path) if path.is_file() else {}
    by_rater: defaultdict[str, list[Annotation]] = defaultdict(list)
    for candidate in sorted(known):
        for row in _standing(store, candidate, high_water):
            by_rater[row.scores.rater].append(row)
    return [gold_summary(rater, gold_answers(known, by_rater[rater])) for rater in sorted(by_rater)]


def _sources(run: Path, info: BuildInfo) -> dict[str, str]:
    """The source image of every kept candidate, by its pixels."""
    return {
        sample.candidate.id: sample.request.sources[0].pixels_sha256
        for part in range(info.n_parts)
        for sample in read_kept(run, "gates", part)
        if sample.candidate
    }


def show(facts: Mapping[str, object], as_json: bool) -> None:
    """Facts for a person, or as one JSON object."""
    if as_json:
        print(json.dumps(facts))
        return
    console = Console()
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {'-' if one is None else f'{one:.2f}'}" for key, one in value.items())
        console.print(f"{name:>13}  {shown}", highlight=False, markup=False, soft_wrap=True)
