"""`regionwise push`: a run's candidates into Label Studio, what is to be rated now.

A push plans (`annotation.raters.routing`) and sends: the first round with gold among it, then, of what was collected, a
second round and adjudication where raters do not agree. One project a queue. It may be stopped and started again at any
time, and run beside another.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from annotation.client import Asked, RankedImage, RankingTask, Task
from annotation.exchange import Sent, send
from annotation.raters.consensus import current
from annotation.raters.gold import GOLD_FILE, choose_gold, gold_answers, random_verdict, read_gold
from annotation.raters.routing import Queue, QueueName, RoutingSettings, Value, plan, plan_rankings
from annotation.store import MAX_SEQ, AnnotationStore, open_store, store_path
from annotation.studio.client import StudioClient, open_ask
from annotation.studio.http import StudioSettings
from annotation.studio.image_urls import DataImages, ImagePlace, LocalImages, S3Images
from annotation.studio.project import open_project
from annotation.studio.projects_file import FILE_NAME, StudioLink, read_link
from flows.people import gated, oracle_score, show, tasks_of
from flows.projects import clients_of, kind_of
from flows.train_reward import outputs
from pipeline.run.folder import read_kept
from pipeline.run.image_store import read_image_bytes
from runtime.files import write_whole
from schemas.errors import BadInput
from schemas.manifest import BuildInfo
from schemas.sample import ImageRef, Sample
from schemas.score import Annotation, CandidateScore

#: What a project of each queue is called after the title.
TITLES: Mapping[QueueName, str] = {
    "first-many": "",
    "first-one": ", one rater",
    "second": ", second round",
    "adjudication": ", adjudication",
    "ranking": ", ranking",
}
ORACLE_GOLD = "oracle"
GOLD_TASKS = 50
#: What a reward is unsure about, in the run folder (`training.scoring.uncertainty`).
VALUES_FILE = "values.jsonl"


@dataclass(frozen=True)
class Images:
    """How annotators come by the images. documents: the server's document root, for local ones; bucket: for s3."""

    kind: str = "local"
    documents: Path | None = None
    bucket: str | None = None
    endpoint: str | None = None
    prefix: str = "regionwise"


@dataclass(frozen=True)
class Work:
    """What shall be rated by whom. gold: a file of known scores (JSONL), `oracle`, or None; values: a file of them.

    ranking: requests with their candidates side by side are sent, and not single candidates.
    reward: the spec of a reward that is asked for the values.
    """

    routing: RoutingSettings = field(default_factory=RoutingSettings)
    gold: str | None = None
    values: Path | None = None
    ranking: bool = False
    reward: str | None = None

    def __post_init__(self) -> None:
        """Checks that the settings fit. Raises: BadInput."""
        if self.values is not None and self.reward is not None:
            raise BadInput("push", "is given values, and a reward to ask for them", "give one of them")
        if self.ranking and self.gold is not None:
            raise BadInput("push", "mixes gold among rankings, of which none is known", "leave one of them out")


def push_run(run: Path, settings: StudioSettings, title: str | None, images: Images, work: Work) -> dict[str, object]:
    """Sends what is to be rated now to the projects of its queues, made where there are none, and says what it did.

    Raises: BadInput where the run is not through the gates, was pushed to another server, or settings do not fit;
    RegionwiseError where the server does not answer.
    """
    started = time.monotonic()
    info = gated(run)
    # Runs of one name are common; of one name and settings they are the same run.
    link = _link(run, settings, title or f"{info.name} {info.config_digest[:6]}")
    if work.ranking and images.kind == "data":
        raise BadInput("images", "of rankings cannot lie inside the tasks: Label Studio drops them", "use local or s3")
    place = image_place(run, images, link.title)
    values = _values(run, info, work)
    with open_store(store_path(run), create=True) as store:
        clients = clients_of(link, settings, store, place.url)
        placed = {
            str(queue): set(store.tasks(client.project))
            for queue, client in clients.items()
            if (queue == "ranking") == work.ranking
        }
        queues = [] if work.ranking else _queues(run, info, store, clients, values, placed, work)
        planned: Iterable[tuple[Queue, Sequence[Asked]]] = (
            _rankings(run, info, values, placed, work.routing) if work.ranking else _with_tasks(run, info, queues)
        )
        sent: dict[str, Sent] = {}
        for queue, tasks in planned:
            link = _with_project(run, link, settings, queue, place)
            client = clients_of(link, settings, store, place.url)[queue.name]
            sent[queue.name] = send(client, store, tasks)
    return {
        "server": link.url,
        "projects": {name: number for name, number in link.projects.items()},
        "new": {name: count.new for name, count in sent.items()},
        "found": sum(count.found for count in sent.values()),
        "known": sum(len(tasks) for tasks in placed.values()),
        "gold": sum(len(queue.gold) for queue in queues),
        "seconds": round(time.monotonic() - started, 2),
    }


def _queues(
    run: Path,
    info: BuildInfo,
    store: AnnotationStore,
    clients: Mapping[QueueName, StudioClient],
    values: Sequence[Value],
    placed: Mapping[str, set[str]],
    work: Work,
) -> list[Queue]:
    """What is to be rated now, candidate by candidate."""
    known = _known_scores(run, info, work)
    answers = _people(store)
    return plan(
        values,
        answers,
        placed,
        list(known),
        work.routing,
        distrusted=_distrusted(known, answers),
        adjudicated=_answered_in(clients.get("adjudication"), answers),
    )


def _rankings(
    run: Path, info: BuildInfo, values: Sequence[Value], placed: Mapping[str, set[str]], routing: RoutingSettings
) -> list[tuple[Queue, list[RankingTask]]]:
    """The queue of what is to be ranked now, with its tasks; none where there is nothing.

    Candidates stand in the order of their ids, which says nothing of them.
    """
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for part in range(info.n_parts):
        for sample in read_kept(run, "gates", part):
            samples[sample.request.id].append(sample)
    found = {request: _ranked_images(some) for request, some in samples.items()}
    requests = {request: [one.candidate for one in images] for request, images in found.items()}
    chosen = plan_rankings(requests, values, placed.get("ranking", ()))
    tasks = [
        RankingTask(
            request=request,
            instruction=samples[request][0].request.instruction,
            sources=samples[request][0].sources,
            candidates=found[request],
        )
        for request in chosen
    ]
    return [(Queue("ranking", routing.overlap_raters, tuple(chosen)), tasks)] if tasks else []


def _ranked_images(samples: Sequence[Sample]) -> tuple[RankedImage, ...]:
    found = {sample.candidate.id: sample.edited for sample in samples if sample.candidate and sample.edited}
    return tuple(RankedImage(candidate=candidate, edited=found[candidate]) for candidate in sorted(found))


def push_and_show(
    run: Path, settings: StudioSettings, title: str | None, images: Images, work: Work, as_json: bool
) -> None:
    """`push_run`, and what it did for a person or a program."""
    show(push_run(run, settings, title, images, work), as_json)


def _link(run: Path, settings: StudioSettings, title: str) -> StudioLink:
    """The run's link with the settings of this push. Raises: BadInput where its tasks are on another server."""
    link = read_link(run)
    if link is None:
        return StudioLink(url=settings.url, token_env=settings.token_env, title=title)
    moved = not (_is_here(link.url) and _is_here(settings.url))  # a local server takes another port at times
    if link.projects and link.url != settings.url and moved:
        fault = f"was pushed to {link.url} before, now it is {settings.url}"
        raise BadInput(str(run), fault, f"push to that one, or move {FILE_NAME} away")
    return link.model_copy(update={"url": settings.url, "token_env": settings.token_env})


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def image_place(run: Path, images: Images, folder: str) -> ImagePlace:
    """Where the annotators' images will be. Raises: BadInput where a setting is missing."""

    def read(ref: ImageRef) -> bytes:
        return read_image_bytes(run, ref)

    if images.kind == "data":
        return DataImages(read)
    if images.kind == "s3":
        if images.bucket is None:
            raise BadInput("images", "are on S3, and no bucket is named", "give --bucket")
        return S3Images(read, run / "studio-images", images.bucket, images.prefix, images.endpoint)
    if images.documents is None:
        fault = "shall be files that Label Studio serves, and its document root is not known"
        raise BadInput("images", fault, "give --documents, or --images data")
    return LocalImages(read, images.documents, "".join(c if c.isalnum() or c in "-_" else "-" for c in folder))


def _known_scores(run: Path, info: BuildInfo, work: Work) -> dict[str, CandidateScore]:
    """Known scores by candidate, kept in the run folder for later; without any, those kept there.

    Of the oracle's only as many as the share of gold needs: what is gold is not asked for its own sake.
    """
    path, gold, most = run / GOLD_FILE, work.gold, GOLD_TASKS
    if gold is None:
        return read_gold(path) if path.is_file() else {}
    if gold == ORACLE_GOLD:
        samples = [sample for part in range(info.n_parts) for sample in read_kept(run, "gates", part)]
        known = {score.candidate: score for score in map(oracle_score, samples) if score is not None}
        most = min(most, max(1, round(work.routing.gold_share * len(samples))))
        if not known:
            raise BadInput(str(run), "has no candidate with the oracle's scores", "give a file of known scores")
    else:
        known = read_gold(Path(gold))
    chosen = {candidate: known[candidate] for candidate in choose_gold(known, most)}
    write_whole(path, "".join(score.model_dump_json() + "\n" for score in chosen.values()))
    return chosen


def _people(store: AnnotationStore) -> dict[str, list[Annotation]]:
    """What people said, by candidate: simulated raters have no part in who is asked next."""
    found = {}
    for candidate in sorted(store.rated(MAX_SEQ)):
        standing = [row for row in current(store.annotations(candidate, MAX_SEQ)) if not row.scores.synthetic]
        if standing:
            found[candidate] = standing
    return found


def _values(run: Path, info: BuildInfo, work: Work) -> list[Value]:
    """Every kept candidate with what is known of it. Raises: BadInput for a bad line of a file; TrainingFailed."""
    told: dict[str, Value] = {}
    path = ask_values(run, work.reward) if work.reward is not None else work.values
    if path is not None:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                told[json.loads(line)["candidate"]] = Value(**json.loads(line))
            except (ValueError, TypeError, KeyError):
                remedy = "write candidate, reward_std and mask_doubt, one object a line"
                raise BadInput(f"{path} line {number}", "is no value of a candidate", remedy) from None
    candidates = (sample.candidate for part in range(info.n_parts) for sample in read_kept(run, "gates", part))
    return [told.get(one.id, Value(one.id)) for one in candidates if one is not None]


def ask_values(run: Path, reward: str) -> Path:
    """The file of what a reward is unsure about, made by a process of its own. Raises: TrainingFailed."""
    path = run / VALUES_FILE
    command = [sys.executable, "-m", "training.scoring.uncertainty", "--run", str(run.resolve()), "--reward", reward]
    outputs([(path, [*command, "--out", str(path.resolve())])])
    return path


def _distrusted(known: Mapping[str, CandidateScore], answers: Mapping[str, Sequence[Annotation]]) -> set[str]:
    """Raters whose answers to gold are those of somebody who does not look."""
    by_rater: defaultdict[str, list[Annotation]] = defaultdict(list)
    for candidate in known:
        for row in answers.get(candidate, ()):
            by_rater[row.scores.rater].append(row)
    return {
        rater for rater, rows in by_rater.items() if random_verdict(gold_answers(known, rows)).found_after is not None
    }


def _answered_in(client: StudioClient | None, answers: Mapping[str, Sequence[Annotation]]) -> set[str]:
    """The candidates with an answer from the project of `client`."""
    if client is None:
        return set()
    begin = f"{client.project}/"
    return {candidate for candidate, rows in answers.items() if any(row.id.startswith(begin) for row in rows)}


def _with_tasks(run: Path, info: BuildInfo, queues: Sequence[Queue]) -> Iterator[tuple[Queue, list[Task]]]:
    """Each queue with its tasks in its order; no others are kept in memory."""
    wanted = {candidate for queue in queues for candidate in queue.candidates}
    found: dict[str, Task] = {}
    first = 0
    for part in range(info.n_parts):
        samples = list(read_kept(run, "gates", part))
        found |= {task.candidate: task for task in tasks_of(samples, first) if task.candidate in wanted}
        first += len(samples)
    for queue in queues:
        yield queue, [found[candidate] for candidate in queue.candidates if candidate in found]


def _with_project(run: Path, link: StudioLink, settings: StudioSettings, queue: Queue, place: ImagePlace) -> StudioLink:
    """The link with a project for the queue: made where there is none, and told how many raters a task has."""
    ask = open_ask(settings)
    number = open_project(ask, f"{link.title}{TITLES[queue.name]}", place, kind_of(queue.name))
    ask("PATCH", f"/api/projects/{number}/", {"maximum_annotations": queue.raters})
    link = link.model_copy(update={"projects": {**link.projects, queue.name: number}})
    write_whole(run / FILE_NAME, link.model_dump_json(indent=1) + "\n")
    return link
