"""`regionwise push`: a run's candidates into Label Studio, what is to be rated now.

A push plans (`annotation.raters.routing`) and sends: the first round with gold among it, then, of what was collected, a
second round and adjudication where raters do not agree. One project a queue. It may be stopped and started again at any
time, and run beside another.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from annotation.client import AnyTask
from annotation.exchange import Sent, send
from annotation.raters.routing import Queue, QueueName
from annotation.store import open_store, store_path
from annotation.studio.authorize import open_ask
from annotation.studio.http import StudioSettings
from annotation.studio.image_urls import DataImages, ImagePlace, LocalImages, S3Images
from annotation.studio.link import FILE_NAME, StudioLink, add_project, read_link
from annotation.studio.project_setup import open_project
from flows.facts import show_facts
from flows.push_plan import queue_tasks, ranking_queue, rating_queues
from flows.push_settings import PushSettings
from flows.push_values import candidate_values
from flows.run_tasks import read_gated
from flows.studio_clients import open_clients, open_queue, studio_settings, task_kind
from pipeline.run.image_store import read_image_bytes
from schemas.errors import BadInput
from schemas.sample import ImageRef

#: What a project of each queue is called after the title.
TITLES: Mapping[QueueName, str] = {
    "first-many": "",
    "first-one": ", one rater",
    "second": ", second round",
    "adjudication": ", adjudication",
    "ranking": ", ranking",
}


def push_run(run: Path, settings: PushSettings) -> dict[str, object]:
    """Sends what is to be rated now to the projects of its queues, made where there are none, and says what it did.

    Raises: BadInput where the run is not through the gates, was pushed to another server, or settings do not fit;
    RegionwiseError where the server does not answer.
    """
    started = time.monotonic()
    server, documents = studio_settings(run, settings.url, settings.token_env, settings.studio, settings.batch)
    info = read_gated(run)
    # Runs of one name are common; of one name and settings they are the same run.
    link = _link(run, server, settings.title or f"{info.name} {info.config_digest[:6]}")
    if settings.ranking and settings.images == "data":
        raise BadInput("images", "of rankings cannot lie inside the tasks: Label Studio drops them", "use local or s3")
    place = image_place(run, settings, settings.documents or documents, link.title)
    values = candidate_values(run, info, settings)
    with open_store(store_path(run), create=True) as store:
        with open_clients(link, server, store, place.url) as clients:
            projects = {name: client.project for name, client in clients.items()}
        placed = {
            str(queue): set(store.tasks(project))
            for queue, project in projects.items()
            if (queue == "ranking") == settings.ranking
        }
        queues = [] if settings.ranking else rating_queues(run, info, store, projects, values, placed, settings)
        planned: Iterable[tuple[Queue, Sequence[AnyTask]]] = (
            ranking_queue(run, info, values, placed, settings.raters)
            if settings.ranking
            else queue_tasks(run, info, queues)
        )
        sent: dict[str, Sent] = {}
        for queue, tasks in planned:
            link = _with_project(run, link, server, queue, place)
            with open_queue(link, server, store, place.url, queue.name) as client:
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


def push_and_show(run: Path, settings: PushSettings, as_json: bool) -> None:
    """`push_run`, and what it did for a person or a program."""
    show_facts(push_run(run, settings), as_json)


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


def image_place(run: Path, settings: PushSettings, documents: Path | None, folder: str) -> ImagePlace:
    """Where the annotators' images will be. Raises: BadInput where a setting is missing."""

    def read(ref: ImageRef) -> bytes:
        return read_image_bytes(run, ref)

    if settings.images == "data":
        return DataImages(read)
    if settings.images == "s3":
        if settings.bucket is None:
            raise BadInput("images", "are on S3, and no bucket is named", "give --bucket")
        return S3Images(read, run / "studio-images", settings.bucket, endpoint=settings.endpoint)
    if documents is None:
        fault = "shall be files that Label Studio serves, and its document root is not known"
        raise BadInput("images", fault, "give --documents, or --images data")
    return LocalImages(read, documents, "".join(c if c.isalnum() or c in "-_" else "-" for c in folder))


def _with_project(run: Path, link: StudioLink, settings: StudioSettings, queue: Queue, place: ImagePlace) -> StudioLink:
    """The link with a project for the queue: made where there is none, with the number of raters of a task."""

    def make() -> int:
        number = open_project(ask, f"{link.title}{TITLES[queue.name]}", place, task_kind(queue.name))
        ask("PATCH", f"/api/projects/{number}/", {"maximum_annotations": queue.raters})
        return number

    with open_ask(settings) as ask:
        return add_project(run, link, queue.name, make)
