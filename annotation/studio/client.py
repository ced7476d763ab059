"""A Label Studio project as an annotation client; the only importer of label_studio_sdk, which knows its tokens.

Changes are found by the time of each task's last change, which creating, changing and deleting an annotation moves.
What changed since the newest change of the pass before, less an overlap, is listed, and where it has answers, and has
changed since it was last read, it is read with them. Where one listing does not hold it all, a pass goes up to the
newest change there is, by the tasks' ids, so that whatever changes meanwhile is left to the next pass and none is
missed: those with annotations, those that were skipped, those without any, as they may have had some.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from annotation.client import Answer, AnyTask, LostAnswer, Page, RankingTask, RejectedAnnotation
from annotation.store import MAX_SEQ, AnnotationStore
from annotation.studio.controls import LABELS, RANKING, compare, read_controls
from annotation.studio.convert import Unreadable, moment, read_annotation, studio_task
from annotation.studio.http import StudioFailure, StudioHttp, StudioSettings, base_url, connect, read_token
from annotation.studio.interface import Kind
from annotation.studio.rankings import ranking_task, read_ranking
from annotation.studio.webhook import SECRET_HEADER
from schemas.errors import BadInput, RegionwiseError, printable
from schemas.record import Record, first_fault, short_hash
from schemas.sample import ImageRef

#: Field, operator, type, value.
Filter = tuple[str, str, str, object]
_Answer = TypeVar("_Answer", bound=BaseModel)
_Thing = TypeVar("_Thing")
#: What is kept of an annotation that cannot be used; who made it stands elsewhere in it, and stays behind.
RECEIVED = ("id", "task", "result", "was_cancelled", "lead_time", "created_at", "updated_at", "value")
#: Candidates or tasks asked for in one URL.
ASKED = 100
FIRST = datetime(1970, 1, 1, tzinfo=UTC)
#: What the listings of a pass ask for, in turn, beside the time of the change.
_ANNOTATED: Filter = ("total_annotations", "greater", "Number", 0)
_SKIPPED: Filter = ("cancelled_annotations", "greater", "Number", 0)
_EMPTY: tuple[Filter, ...] = (
    ("total_annotations", "equal", "Number", 0),
    ("cancelled_annotations", "equal", "Number", 0),
)
PHASES = ((_ANNOTATED,), (_SKIPPED,), _EMPTY)
EMPTY_PHASE = 2
#: So many imports are kept ready.
MAX_READY = 3

#: The address of an image in a task (`annotation.studio.image_urls.ImagePlace.url`).
ImageUrl = Callable[[ImageRef], str]


class _Cursor(Record):
    """How far a project was read. since: newest change of the last whole pass. until, phase, after: a pass under way.

    seen: time of the last change of tasks read within the overlap. gone: how many tasks of ours are no more there.
    """

    since: datetime | None = None
    until: datetime | None = None
    phase: int = 0
    after: int = 0
    seen: dict[int, datetime] = {}
    gone: int = 0


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


class _Listed(BaseModel):
    """One task of a listing."""

    model_config = ConfigDict(extra="ignore")
    id: int
    data: dict[str, Any]
    updated_at: datetime
    total_annotations: int
    cancelled_annotations: int
    annotations: list[Any] = []


class _Listing(BaseModel):
    model_config = ConfigDict(extra="ignore")
    total: int
    tasks: list[_Listed]


class _Imported(BaseModel):
    model_config = ConfigDict(extra="ignore")
    task_ids: list[int] = Field(default=[])


def open_studio(
    settings: StudioSettings, store: AnnotationStore, config: str, image_url: ImageUrl, kind: Kind = "regions"
) -> "StudioClient":
    """A client of the project that the settings name. config: the labelling interface that it must have.

    kind: whether its tasks are candidates with their regions, or requests with candidates to rank.

    Raises: BadInput for a wrong URL, token, project or interface; RegionwiseError where the server does not answer.
    """
    http = _authorized(settings, read_token(settings))
    return StudioClient(settings, store, config, image_url, http, kind)


def open_ask(settings: StudioSettings) -> Callable[[str, str, Mapping[str, Any] | None], Any]:
    """Asks the server that the settings name: method, path, JSON body; gives its JSON. Raises: as `open_studio`."""
    http = _authorized(settings, read_token(settings))

    def ask(method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        return http.ask(method, path, body=None if body is None else json.dumps(body).encode())

    return ask


def _authorized(settings: StudioSettings, token: str) -> StudioHttp:
    """Requests with the token; personal access tokens are exchanged for short-lived ones as they run out."""
    from label_studio_sdk.core.api_error import ApiError
    from label_studio_sdk.core.client_wrapper import SyncClientWrapper

    connections = connect(settings)
    url = base_url(settings.url)
    try:
        wrapper = SyncClientWrapper(api_key=token, base_url=f"{url}/", httpx_client=connections, max_retries=0)
    except ApiError:
        connections.close()
        thing, remedy = f"environment variable {settings.token_env}", "put a new token into it"
        raise BadInput(thing, "holds a personal access token that has expired", remedy) from None

    def authorize() -> Mapping[str, str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, at what the SDK does
                headers: Mapping[str, str] = wrapper.get_headers()
        except ApiError as error:
            raise http.status_failure(error.status_code or 401, json.dumps(error.body).encode()) from None
        except (ValueError, RecursionError):
            fault = "answers the exchange of the token with something that is no JSON"
            raise StudioFailure(fault, "give the URL of Label Studio itself") from None
        return {"Authorization": headers["Authorization"]}

    http = StudioHttp(settings, connections, token, authorize)
    return http


class StudioClient:
    """An `AnnotationClient`; get one from `open_studio`. It reads the store; `annotation.exchange` writes."""

    def __init__(
        self,
        settings: StudioSettings,
        store: AnnotationStore,
        config: str,
        image_url: ImageUrl,
        http: StudioHttp,
        kind: Kind,
    ) -> None:
        self._settings, self._store, self._image_url, self._http = settings, store, image_url, http
        self.batch_tasks = settings.batch_tasks
        self._maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio-tasks")
        self._ready: dict[tuple[str, ...], Future[bytes]] = {}
        self._is_ranking = kind == "ranking"
        #: What a task's data call its key, and where its labelling interface is written.
        self._about, self._file = ("request", RANKING) if self._is_ranking else ("candidate", LABELS)
        self._controls = read_controls(config, self._file, self._file)
        project = self.check()
        self.project = f"label-studio-{project.id}-{short_hash(project.id, project.created_at)[:8]}"
        organization = self._ask(_Organization, f"/api/organizations/{project.organization}")
        self._server = short_hash(organization.id, organization.created_at)

    def check(self) -> _Project:
        """The project. Raises: BadInput where its labelling interface is not ours, naming what differs."""
        project = self._ask(_Project, f"/api/projects/{self._settings.project}/")
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
        for asked in _cut(keys, ASKED):
            for task in self._all([(f"data.{self._about}", "in_list", "List", asked)]):
                key = self._key(task)
                if key not in asked:
                    raise RegionwiseError(self._http.thing, "lists tasks that were not asked for", "look into its log")
                if found.setdefault(key, str(task.id)) != str(task.id):
                    self._take_away(task)
        return found

    def _take_away(self, task: _Listed) -> None:
        if not task.total_annotations and not task.cancelled_annotations:
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

    def _key(self, task: _Listed) -> str:
        """The candidate or request that a task is about; '' where it says none."""
        found = task.data.get(self._about)
        return found if isinstance(found, str) else ""

    def _stored(self, key: str) -> Sequence[Answer]:
        """Every version of every answer of a key that is in the store."""
        return self._store.rankings(key, MAX_SEQ) if self._is_ranking else self._store.annotations(key, MAX_SEQ)

    def _read(self, raw: Any, key: str, task: _Listed, rater: str) -> Answer:
        """An answer as a record. Raises: Unreadable."""
        number = str(task.id)
        if self._is_ranking:
            ranking = self._store.sent_ranking(self.project, key)
            if ranking is not None and ranking[1] == number:
                return read_ranking(raw, ranking[0], number, self.project, self._controls, rater)
        else:
            sent = self._store.sent(self.project, key)
            if sent is not None and sent[1] == number:
                return read_annotation(raw, sent[0], number, self.project, self._controls, rater)
        raise Unreadable("unknown_task", f"is of task {number}, which was not sent from here")

    def call(self, url: str, secret: str) -> None:
        """Has the server call `url` (`annotation.studio.webhook`) whenever annotations of the project change."""
        project = self._settings.project
        hooks = self._http.ask("GET", "/api/webhooks/", {"project": project})
        hook = {
            "url": url,
            "headers": {SECRET_HEADER: secret},
            "send_payload": False,
            "send_for_all_actions": False,
            "actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"],
            "project": project,
        }
        known = [found for found in hooks if isinstance(found, dict) and found.get("url") == url]
        method, path = ("PATCH", f"/api/webhooks/{known[0].get('id')}/") if known else ("POST", "/api/webhooks/")
        self._http.ask(method, path, body=json.dumps(hook).encode())

    def pull(self, cursor: str | None) -> Page:
        """See `AnnotationClient.pull`. Raises: BadInput, also where the interface was changed; RegionwiseError."""
        at = self._read_cursor(cursor)
        total: int | None = None
        if at.until is None:
            total = self.check().task_number
            newest = self._newest(at)
            if newest.total <= len(newest.tasks):
                return self._pull_at_once(at, newest.tasks, total)
            at = at.model_copy(update={"until": newest.tasks[0].updated_at, "phase": 0, "after": 0})
        tasks_read = 0
        while at.until is not None:
            listed = self._changed(at)
            annotations, rejects, read = self._answers(listed, at.seen)
            following = self._next(at, listed, read)
            if following.until is None:
                annotations += self._emptied(
                    number for number, time in at.seen.items() if at.since and time <= at.since
                )
            at, tasks_read = following, tasks_read + len(read)
            if annotations or rejects:
                return self._page(at, annotations, rejects, tasks_read, more=True)
        at, deleted = self._gone(at, self.check().task_number if total is None else total)
        return self._page(at, deleted, [], tasks_read, more=False)

    def _pull_at_once(self, at: _Cursor, listed: Sequence[_Listed], total: int) -> Page:
        """A pass that is one listing."""
        annotations, rejects, read = self._answers(listed, at.seen)
        annotations += self._emptied(set(at.seen) - {task.id for task in listed})
        until = max((task.updated_at for task in listed), default=at.since)
        at = self._ended(at.model_copy(update={"until": until}), read)
        at, deleted = self._gone(at, total)
        return self._page(at, annotations + deleted, rejects, len(read), more=False)

    def _newest(self, at: _Cursor) -> _Listing:
        """What may matter of all that changed, newest first: with answers, skipped, or without and not quite new.

        Of what is quite new and without answers only that may have had some which is `seen`.
        """
        changed: Filter = ("updated_at", "greater_or_equal", "Datetime", self._begin(at))
        either = [(changed, _ANNOTATED), (changed, _SKIPPED)]
        if at.since is not None:
            either.append((changed, ("created_at", "less_or_equal", "Datetime", self._begin(at))))
        return self._list([], either=either, order="-tasks:updated_at")

    def _emptied(self, numbers: Iterable[int]) -> list[Answer]:
        """The annotations of tasks that had some, as deleted where they have none any more."""
        listed = [task for asked in _cut(sorted(numbers), ASKED) for task in self._list([], included=asked).tasks]
        empty = [task for task in listed if not task.total_annotations and not task.cancelled_annotations]
        return [gone for task in empty for gone in self._withdrawn(self._key(task), set(), task)]

    def _begin(self, at: _Cursor) -> str:
        """From which change on a pass reads."""
        return _asked_time(FIRST if at.since is None else at.since - timedelta(seconds=self._settings.overlap_s))

    def _read_cursor(self, cursor: str | None) -> _Cursor:
        try:
            return _Cursor() if cursor is None else _Cursor.model_validate_json(cursor)
        except ValidationError as error:
            raise BadInput(
                f"cursor of {self.project}", first_fault(error), "bring the store back from a copy"
            ) from None

    def _page(
        self,
        at: _Cursor,
        annotations: Sequence[Answer],
        rejects: Sequence[RejectedAnnotation],
        tasks_read: int,
        *,
        more: bool,
    ) -> Page:
        ordered = tuple(sorted(annotations, key=lambda annotation: annotation.updated_at))
        return Page(ordered, at.model_dump_json(), more, tuple(rejects), tasks_read)

    def _changed(self, at: _Cursor) -> list[_Listed]:
        """The next tasks of a phase of a pass, in the order of their ids."""
        if at.phase == EMPTY_PHASE and at.since is None:
            return []
        span = {"min": self._begin(at), "max": _asked_time(at.until or FIRST)}
        filters: list[Filter] = [("updated_at", "in", "Datetime", span), ("id", "greater", "Number", at.after)]
        filters += PHASES[at.phase]
        if at.phase == EMPTY_PHASE:
            filters.append(("created_at", "less_or_equal", "Datetime", self._begin(at)))
        return self._list(filters).tasks

    def _next(self, at: _Cursor, listed: Sequence[_Listed], read: Sequence[_Listed]) -> _Cursor:
        """Where a pass is after a listing; at its end the next one begins where it began."""
        if len(listed) == self._settings.page_tasks:
            return at.model_copy(update={"seen": self._seen(at, read, at.since), "after": listed[-1].id})
        if at.phase < EMPTY_PHASE:
            return at.model_copy(update={"seen": self._seen(at, read, at.since), "phase": at.phase + 1, "after": 0})
        return self._ended(at, read)

    def _seen(self, at: _Cursor, read: Sequence[_Listed], since: datetime | None) -> dict[int, datetime]:
        """What the next pass need not read again, and up to `since` what this one need not."""
        horizon = (at.until or FIRST) - timedelta(seconds=self._settings.overlap_s)
        seen = at.seen | {task.id: task.updated_at for task in read}
        return {number: time for number, time in seen.items() if time >= horizon or (since and time <= since)}

    def _ended(self, at: _Cursor, read: Sequence[_Listed]) -> _Cursor:
        seen = self._seen(at, read, None)
        return at.model_copy(update={"since": at.until, "until": None, "phase": 0, "after": 0, "seen": seen})

    def _answers(
        self, listed: Sequence[_Listed], seen: Mapping[int, datetime]
    ) -> tuple[list[Answer], list[RejectedAnnotation], list[_Listed]]:
        """(new annotations, rejects, tasks read with their answers) of listed tasks."""
        empty = [task for task in listed if not task.total_annotations and not task.cancelled_annotations]
        annotations = [gone for task in empty for gone in self._withdrawn(self._key(task), set(), task)]
        rejects: list[RejectedAnnotation] = []
        numbers = {task.id for task in listed if seen.get(task.id) != task.updated_at} - {task.id for task in empty}
        read: list[_Listed] = []
        for asked in _cut(sorted(numbers), self._settings.body_tasks):
            read += self._list([], included=asked, whole=True).tasks
        for task in read:
            found, refused = self._task_answers(task)
            annotations += found
            rejects += refused
        return annotations, rejects, read

    def _task_answers(self, task: _Listed) -> tuple[list[Answer], list[RejectedAnnotation]]:
        """A task's new annotations and rejects; of one rater's several the newest counts. What went is `deleted`."""
        key = self._key(task)
        known = {(found.id, found.updated_at) for found in self._stored(key)}
        annotations, rejects = list[Answer](), []
        raters, present = set[str](), set[str]()
        for raw in sorted(task.annotations, key=_time_and_id, reverse=True):
            rater = ""
            try:
                rater = self._rater(raw)
                found = self._read(raw, key, task, rater)
                present.add(found.id)
                if rater in raters:
                    raise Unreadable("second_by_rater", "is older than another annotation of the same rater")
                raters.add(rater)
                if (found.id, found.updated_at) not in known:
                    annotations.append(found)
            except Unreadable as fault:
                rejects.append(_reject(task, raw, rater, fault))
        return annotations + self._withdrawn(key, present, task), rejects

    def _rater(self, raw: Any) -> str:
        """The pseudonym of who made an annotation. Raises: Unreadable."""
        by = raw.get("completed_by") if isinstance(raw, dict) else None
        number = by.get("id") if isinstance(by, dict) else by
        if not isinstance(number, int) or isinstance(number, bool):
            raise Unreadable("malformed", "does not say who made it")
        return self._store.pseudonym(f"{self._server}/{number}")

    def _withdrawn(self, key: str, present: set[str], task: _Listed | None) -> list[Answer]:
        """Stored annotations of a task that are not there (any more, or in a form that can be used), as deleted."""
        latest = {
            found.id: found
            for found in sorted(self._stored(key), key=lambda found: moment(found.updated_at))
            if found.id.startswith(f"{self.project}/") and (task is None or found.task == str(task.id))
        }
        now = datetime.now(UTC) if task is None else task.updated_at
        return [
            found.model_copy(update={"state": "deleted", "updated_at": _later(now, found)})
            for found in latest.values()
            if found.state != "deleted" and found.id not in present
        ]

    def _gone(self, at: _Cursor, total: int) -> tuple[_Cursor, list[Answer]]:
        """Where tasks of ours are missing, their annotations as deleted. Told by the number of tasks that are there."""
        placed = self._store.tasks(self.project)
        if total >= len(placed) - at.gone:
            return at, []
        numbers, there = [int(task) for task in placed.values()], set[str]()
        for asked in _cut(numbers, ASKED):
            there |= {str(task.id) for task in self._list([], included=asked).tasks}
        missing = [key for key, task in placed.items() if task not in there]
        deleted = [gone for key in missing for gone in self._withdrawn(key, set(), None)]
        return at.model_copy(update={"gone": len(missing)}), deleted

    def _list(
        self,
        filters: Sequence[Filter],
        *,
        either: Sequence[tuple[Filter, Filter]] = (),
        order: str = "tasks:id",
        size: int | None = None,
        included: Sequence[int] = (),
        whole: bool = False,
    ) -> _Listing:
        """One page of tasks that pass all `filters`, or both of `either`; whole: with annotations. Raises: as `ask`."""
        query: dict[str, Any] = {"ordering": [order]}
        if filters:
            query["filters"] = {"conjunction": "and", "items": [_asked(one) for one in filters]}
        if either:
            items = [_asked(first) | {"child_filter": _asked(second)} for first, second in either]
            query["filters"] = {"conjunction": "or", "items": items}
        if included:
            query["selectedItems"] = {"all": False, "included": list(included)}
        params: dict[str, str | int] = {
            "project": self._settings.project,
            "fields": "all" if whole else "task_only",
            "resolve_uri": "false",
            "page": 1,
            "page_size": size or max(self._settings.page_tasks, len(included)),
            "query": json.dumps(query, separators=(",", ":")),
        }
        return self._ask(_Listing, "/api/tasks/", params)

    def _all(self, filters: Sequence[Filter]) -> Iterator[_Listed]:
        """All tasks that pass the filters, in the order of their ids."""
        after, listed = 0, list[_Listed]()
        while not after or len(listed) == self._settings.page_tasks:
            listed = self._list([*filters, ("id", "greater", "Number", after)]).tasks
            yield from listed
            after = listed[-1].id if listed else 1

    def _ask(self, model: type[_Answer], path: str, params: Mapping[str, str | int] | None = None) -> _Answer:
        """What the server answers, as it must look. Raises: as `StudioHttp.ask`, and RegionwiseError otherwise."""
        answer = self._http.ask("GET", path, params)
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            fault = f"answers {path} with something else: {first_fault(error)}"
            raise RegionwiseError(self._http.thing, fault, "give the URL of Label Studio itself") from None


def _cut(things: Sequence[_Thing], n: int) -> Iterator[list[_Thing]]:
    """`things` in order, `n` at a time."""
    for begin in range(0, len(things), n):
        yield list(things[begin : begin + n])


def _time_and_id(raw: Any) -> tuple[str, int]:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), int):
        return "", 0
    return str(raw.get("updated_at")), raw["id"]


def _later(now: datetime, found: Answer) -> str:
    """`now`, and in any case later than a stored version."""
    return max(now.astimezone(UTC), moment(found.updated_at) + timedelta(microseconds=1)).isoformat(
        timespec="microseconds"
    )


def _asked(one: Filter) -> dict[str, object]:
    name, operator, kind, value = one
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def _asked_time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _reject(task: _Listed, raw: Any, rater: str, fault: Unreadable) -> RejectedAnnotation:
    """The record of an annotation that cannot be used, without who made it."""
    fields = raw if isinstance(raw, dict) else {"value": raw}
    kept = {name: fields[name] for name in RECEIVED if name in fields}
    return RejectedAnnotation(
        task=str(task.id),
        annotation=str(fields.get("id"))[:200],
        updated_at=str(fields.get("updated_at"))[:40],
        reason=fault.reason,
        detail=printable(str(fault))[:500],
        received=json.dumps(kept | {"rater": rater}),
    )
