"""What is new or changed in a Label Studio project since it was last read.

Changes are found by the time of each task's last change, which creating, changing and deleting an annotation moves.
What changed since the newest change of the pass before, less an overlap, is listed, and where it has answers, and has
changed since it was last read, it is read with them. Where one listing does not hold it all, a pass goes up to the
newest change there is, by the tasks' ids, so that whatever changes meanwhile is left to the next pass and none is
missed: those with annotations, those that were skipped, those without any, as they may have had some.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from annotation.client import Answer, Page, RejectedAnnotation
from annotation.studio.http import StudioSettings
from annotation.studio.listing import (
    ANNOTATED,
    ASKED,
    EMPTY,
    SKIPPED,
    Filter,
    ListedTask,
    Listing,
    TaskLister,
    chunks,
    filter_time,
)
from annotation.studio.new_answers import AnswerReader
from schemas.errors import BadInput
from schemas.record import Record, first_fault

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
#: What the listings of a pass ask for, in turn, beside the time of the change.
PHASES = ((ANNOTATED,), (SKIPPED,), EMPTY)
EMPTY_PHASE = 2
#: Grows with what can be read of answers: those that were refused before are then read again, once. 2: item by item.
READS = 2


class _Cursor(Record):
    """How far a project was read. since: newest change of the last whole pass. until, phase, after: a pass under way.

    seen: time of the last change of tasks read within the overlap. gone: how many tasks of ours are no more there.
    reads: what could be read of an answer, as `READS`.
    """

    since: datetime | None = None
    until: datetime | None = None
    phase: int = 0
    after: int = 0
    seen: dict[int, datetime] = {}
    gone: int = 0
    reads: int = 1


class Puller:
    """Finds what changed in one project since a cursor.

    placed: the ids of the tasks that were sent there, by key; count: how many tasks the project has.
    """

    def __init__(
        self,
        settings: StudioSettings,
        lister: TaskLister,
        reader: AnswerReader,
        project: str,
        placed: Callable[[], Mapping[str, str]],
        count: Callable[[], int],
    ) -> None:
        self._settings, self._lister, self._reader, self._project = settings, lister, reader, project
        self._placed, self._count = placed, count

    def pull(self, cursor: str | None) -> Page:
        """See `AnnotationClient.pull`. Raises: BadInput, also where the interface was changed; RegionwiseError."""
        at = self._read_cursor(cursor)
        if at.reads < READS:
            return self._again(at)
        total: int | None = None
        if at.until is None:
            total = self._count()
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
        at, deleted = self._gone(at, self._count() if total is None else total)
        return self._page(at, deleted, [], tasks_read, more=False)

    def _again(self, at: _Cursor) -> Page:
        """A page of the tasks with answers that an earlier version refused; all else is left to the next page."""
        annotations, rejects, read = self._read(self._reader.refused())
        return self._page(at.model_copy(update={"reads": READS}), annotations, rejects, len(read), more=True)

    def _pull_at_once(self, at: _Cursor, listed: Sequence[ListedTask], total: int) -> Page:
        """A pass that is one listing."""
        annotations, rejects, read = self._answers(listed, at.seen)
        annotations += self._emptied(set(at.seen) - {task.id for task in listed})
        until = max((task.updated_at for task in listed), default=at.since)
        at = self._ended(at.model_copy(update={"until": until}), read)
        at, deleted = self._gone(at, total)
        return self._page(at, annotations + deleted, rejects, len(read), more=False)

    def _newest(self, at: _Cursor) -> Listing:
        """What may matter of all that changed, newest first: with answers, skipped, or without and not quite new.

        Of what is quite new and without answers only that may have had some which is `seen`.
        """
        changed: Filter = ("updated_at", "greater_or_equal", "Datetime", self._begin(at))
        either = [(changed, ANNOTATED), (changed, SKIPPED)]
        if at.since is not None:
            either.append((changed, ("created_at", "less_or_equal", "Datetime", self._begin(at))))
        return self._lister.page([], either=either, order="-tasks:updated_at")

    def _changed(self, at: _Cursor) -> list[ListedTask]:
        """The next tasks of a phase of a pass, in the order of their ids."""
        if at.phase == EMPTY_PHASE and at.since is None:
            return []
        span = {"min": self._begin(at), "max": filter_time(at.until or FIRST)}
        filters: list[Filter] = [("updated_at", "in", "Datetime", span), ("id", "greater", "Number", at.after)]
        filters += PHASES[at.phase]
        if at.phase == EMPTY_PHASE:
            filters.append(("created_at", "less_or_equal", "Datetime", self._begin(at)))
        return self._lister.page(filters).tasks

    def _next(self, at: _Cursor, listed: Sequence[ListedTask], read: Sequence[ListedTask]) -> _Cursor:
        """Where a pass is after a listing; at its end the next one begins where it began."""
        if len(listed) == self._settings.page_tasks:
            return at.model_copy(update={"seen": self._seen(at, read, at.since), "after": listed[-1].id})
        if at.phase < EMPTY_PHASE:
            return at.model_copy(update={"seen": self._seen(at, read, at.since), "phase": at.phase + 1, "after": 0})
        return self._ended(at, read)

    def _seen(self, at: _Cursor, read: Sequence[ListedTask], since: datetime | None) -> dict[int, datetime]:
        """What the next pass need not read again, and up to `since` what this one need not."""
        horizon = (at.until or FIRST) - timedelta(seconds=self._settings.overlap_s)
        seen = at.seen | {task.id: task.updated_at for task in read}
        return {number: time for number, time in seen.items() if time >= horizon or (since and time <= since)}

    def _ended(self, at: _Cursor, read: Sequence[ListedTask]) -> _Cursor:
        seen = self._seen(at, read, None)
        return at.model_copy(update={"since": at.until, "until": None, "phase": 0, "after": 0, "seen": seen})

    def _begin(self, at: _Cursor) -> str:
        """From which change on a pass reads."""
        return filter_time(FIRST if at.since is None else at.since - timedelta(seconds=self._settings.overlap_s))

    def _answers(
        self, listed: Sequence[ListedTask], seen: Mapping[int, datetime]
    ) -> tuple[list[Answer], list[RejectedAnnotation], list[ListedTask]]:
        """(new annotations, rejects, tasks read with their answers) of listed tasks."""
        empty = [task for task in listed if task.is_empty]
        numbers = {task.id for task in listed if seen.get(task.id) != task.updated_at} - {task.id for task in empty}
        annotations, rejects, read = self._read(numbers)
        return self._withdrawn(empty) + annotations, rejects, read

    def _read(self, numbers: set[int]) -> tuple[list[Answer], list[RejectedAnnotation], list[ListedTask]]:
        """(new annotations, rejects, the tasks), with answers, of these numbers."""
        annotations, rejects, read = list[Answer](), list[RejectedAnnotation](), list[ListedTask]()
        for asked in chunks(sorted(numbers), self._settings.body_tasks):
            read += self._lister.page([], included=asked, whole=True).tasks
        for task in read:
            found, refused = self._reader.new_answers(task)
            annotations += found
            rejects += refused
        return annotations, rejects, read

    def _emptied(self, numbers: Iterable[int]) -> list[Answer]:
        """The annotations of tasks that had some, as deleted where they have none any more."""
        pages = (self._lister.page([], included=asked) for asked in chunks(sorted(numbers), ASKED))
        return self._withdrawn([task for page in pages for task in page.tasks if task.is_empty])

    def _withdrawn(self, empty: Sequence[ListedTask]) -> list[Answer]:
        """What is stored of tasks without any annotation, as deleted."""
        return [gone for task in empty for gone in self._reader.withdrawn(self._reader.key(task), set(), task)]

    def _gone(self, at: _Cursor, total: int) -> tuple[_Cursor, list[Answer]]:
        """Where tasks of ours are missing, their annotations as deleted. Told by the number of tasks that are there."""
        placed = self._placed()
        if total >= len(placed) - at.gone:
            return at, []
        numbers, there = [int(task) for task in placed.values()], set[str]()
        for asked in chunks(numbers, ASKED):
            there |= {str(task.id) for task in self._lister.page([], included=asked).tasks}
        missing = [key for key, task in placed.items() if task not in there]
        deleted = [gone for key in missing for gone in self._reader.withdrawn(key, set(), None)]
        return at.model_copy(update={"gone": len(missing)}), deleted

    def _read_cursor(self, cursor: str | None) -> _Cursor:
        try:
            return _Cursor(reads=READS) if cursor is None else _Cursor.model_validate_json(cursor)
        except ValidationError as error:
            remedy = "update regionwise where a later one wrote it; the answers in the store are whole, keep them"
            raise BadInput(f"cursor of {self._project}", first_fault(error), remedy) from None

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
