"""A Label Studio project as an annotation client: tasks are pushed in imports, answers pulled as they change."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotation.client import AnyTask, LostAnswer, Page, RankingTask
from annotation.store import AnnotationStore
from annotation.studio.authorize import open_http
from annotation.studio.controls import LABELS, RANKING, compare, read_controls
from annotation.studio.hooks import called_at
from annotation.studio.http import StudioHttp, StudioSettings
from annotation.studio.interface import Kind
from annotation.studio.listing import ASKED, ListedTask, TaskLister, chunks, key_field
from annotation.studio.new_answers import AnswerReader
from annotation.studio.pull import Puller
from annotation.studio.rankings import ranking_task
from annotation.studio.tasks import studio_task
from schemas.errors import BadInput, RegionwiseError
from schemas.record import short_hash
from schemas.sample import ImageRef

#: So many imports are kept ready.
MAX_READY = 3

#: The address of an image in a task (`annotation.studio.image_urls.ImagePlace.url`).
ImageUrl = Callable[[ImageRef], str]


class _Project(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: int
    created_at: str
    organization: int
    label_config: str
    task_number: int


class _Organization(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: int
    created_at: str


class _Imported(BaseModel):
    model_config = ConfigDict(extra="ignore")
    task_ids: list[int] = Field(default=[])


def open_studio(
    settings: StudioSettings, store: AnnotationStore, config: str, image_url: ImageUrl, kind: Kind = "regions"
) -> "StudioClient":
    """A client, to be closed, of the project that the settings name. config: the labelling interface that it must have.

    kind: whether its tasks are candidates with their regions, or requests with candidates to rank.

    Raises: BadInput for a wrong URL, token, project or interface; RegionwiseError where the server does not answer.
    """
    http = open_http(settings)
    try:
        return StudioClient(settings, store, config, image_url, http, kind)
    except BaseException:
        http.close()
        raise


class StudioClient:
    """An `AnnotationClient`; get one from `open_studio`. It reads the store; `annotation.exchange` writes.

    A context manager that is closed with its block.
    """

    def __init__(
        self,
        settings: StudioSettings,
        store: AnnotationStore,
        config: str,
        image_url: ImageUrl,
        http: StudioHttp,
        kind: Kind,
    ) -> None:
        self._settings, self._image_url, self._http = settings, image_url, http
        self._lister = TaskLister(http, settings)
        self.batch_tasks = settings.batch_tasks
        self._maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio-tasks")
        self._ready: dict[tuple[str, ...], Future[bytes]] = {}
        self._is_ranking = kind == "ranking"
        #: Where its labelling interface is written.
        self._file = RANKING if self._is_ranking else LABELS
        self._controls = read_controls(config, self._file, self._file)
        project = self.check()
        self.project = f"label-studio-{project.id}-{short_hash(project.id, project.created_at)[:8]}"
        organization = self._lister.get(_Organization, f"/api/organizations/{project.organization}")
        #: Stands for the server among the identities of raters.
        self.server = short_hash(organization.id, organization.created_at)
        reader = AnswerReader(store, self._controls, self.project, self.server, kind)
        self._puller = Puller(
            settings, self._lister, reader, self.project, lambda: store.tasks(self.project), self.count
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections and its thread; what was made ready and not pushed is dropped."""
        self._maker.shutdown(cancel_futures=True)
        self._http.close()

    def check(self) -> _Project:
        """The project. Raises: BadInput where its labelling interface is not ours, naming what differs."""
        project = self._lister.get(_Project, f"/api/projects/{self._settings.project}/")
        thing = f"project {project.id} of {self._http.thing}"
        faults = compare(read_controls(project.label_config, thing, self._file), self._controls)
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            fault = f"has another labelling interface: {'; '.join(faults[:3])}{more}"
            raise BadInput(thing, fault, f"put {self._file} back as its labelling interface")
        return project

    def count(self) -> int:
        """See `AnnotationClient.count`."""
        return self.check().task_number

    def find(self, keys: Sequence[str]) -> dict[str, str]:
        """See `AnnotationClient.find`. A later task of the same key on which nobody has worked is taken away."""
        found: dict[str, str] = {}
        for asked in chunks(keys, ASKED):
            for task in self._lister.every([(f"data.{key_field(self._is_ranking)}", "in_list", "List", asked)]):
                key = task.key(self._is_ranking)
                if key not in asked:
                    raise RegionwiseError(self._http.thing, "lists tasks that were not asked for", "look into its log")
                if found.setdefault(key, str(task.id)) != str(task.id):
                    self._delete_unanswered(task)
        return found

    def _delete_unanswered(self, task: ListedTask) -> None:
        if task.is_empty:
            self._http.ask("DELETE", f"/api/tasks/{task.id}/")

    def get_ready(self, tasks: Sequence[AnyTask]) -> None:
        """See `AnnotationClient.get_ready`. Images are read and written in a thread of their own."""
        key = tuple(task.key for task in tasks)
        if key not in self._ready:
            while len(self._ready) >= MAX_READY:
                self._ready.pop(next(iter(self._ready)))
            self._ready[key] = self._maker.submit(self._body, tuple(tasks))

    def push(self, tasks: Sequence[AnyTask]) -> list[str]:
        """See `AnnotationClient.push`. Raises: LostAnswer, or BadInput for a task that does not fit."""
        self.get_ready(tasks)
        body = self._ready.pop(tuple(task.key for task in tasks)).result()
        path = f"/api/projects/{self._settings.project}/import"
        answer = self._http.send(path, {"return_task_ids": "true"}, body)
        try:
            ids = _Imported.model_validate(answer).task_ids
        except ValidationError:
            ids = []
        if len(ids) != len(tasks):
            raise LostAnswer(self._http.thing, f"does not say which tasks {len(tasks)} became", over=True)
        return [str(number) for number in ids]

    def _body(self, tasks: Sequence[AnyTask]) -> bytes:
        """The import of these tasks. Raises: BadInput for one that does not fit."""
        sent = [self._as_imported(task) for task in tasks]
        body = json.dumps(sent, separators=(",", ":")).encode()
        if len(body) > self._settings.max_sent_bytes:
            fault = f"are {len(body):,} bytes in one import, {self._settings.max_sent_bytes:,} fit"
            raise BadInput(f"{len(tasks)} tasks", fault, "lower batch_tasks")
        return body

    def _as_imported(self, task: AnyTask) -> dict[str, Any]:
        source = self._image_url(task.sources[0])
        if isinstance(task, RankingTask):
            return ranking_task(task, source, [self._image_url(one.edited) for one in task.candidates])
        return studio_task(task, source, self._image_url(task.edited), self._controls)

    def called_at(self, url: str, secret: str) -> AbstractContextManager[None]:
        """Has the server call `url` when annotations of the project change (`annotation.studio.hooks.called_at`)."""
        return called_at(self._http, self._settings.project, url, secret)

    def pull(self, cursor: str | None) -> Page:
        """See `AnnotationClient.pull`. Raises: BadInput, also where the interface was changed; RegionwiseError."""
        return self._puller.pull(cursor)
