"""The contract of every source of annotations, simulated raters and labelling servers alike: tasks in, answers out.

A task is one candidate with its regions, or one request with all its candidates to rank; its key is the id of what it
is about. Pulling is incremental: a cursor says what was handed out already, and whoever pulls stores the answers with
the cursor, so that a crash repeats answers and loses none (`annotation.exchange`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from pydantic import Field

from schemas.errors import RegionwiseError
from schemas.ranking import Ranking
from schemas.record import Id, Record
from schemas.region import ObservedMask, RegionKey, RegionStatus
from schemas.request import Instruction, Label, Role
from schemas.sample import ImageRef
from schemas.score import Annotation

Side = Annotated[int, Field(gt=0, le=65_535)]
#: Longest label in the name of a region.
NAME_CHARS = 80


class TaskRegion(Record):
    """One region to rate, with the mask to show for it; role: what the instruction wants here, None for nothing."""

    label: Label
    role: Role | None
    mask: ObservedMask


class Task(Record):
    """One candidate to rate. index: its place among the run's candidates, from 0. Images: places in the run folder.

    size_hw: height and width of the edited image in pixels, which a labelling server needs; None where nobody asks.
    """

    candidate: Id
    index: Annotated[int, Field(ge=0)]
    instruction: Instruction
    sources: tuple[ImageRef, ...]
    edited: ImageRef
    regions: tuple[TaskRegion, ...]
    size_hw: tuple[Side, Side] | None = None

    @property
    def key(self) -> str:
        """The candidate."""
        return self.candidate


class RankedImage(Record):
    """One candidate of a request to rank. edited: its image's place in the run folder."""

    candidate: Id
    edited: ImageRef


class RankingTask(Record):
    """All candidates of one request, to be put in order; they are shown in the order given here."""

    request: Id
    instruction: Instruction
    sources: tuple[ImageRef, ...]
    candidates: Annotated[tuple[RankedImage, ...], Field(min_length=2)]

    @property
    def key(self) -> str:
        """The request."""
        return self.request


class SentRegion(Record):
    """One region of a task as it was sent, without its mask. name: what the annotator sees it called, once a task."""

    region: RegionKey
    name: str
    label: Label
    role: Role | None
    status: RegionStatus


class SentTask(Record):
    """The record of a rating task that was sent, by which its answers are read."""

    candidate: Id
    size_hw: tuple[Side, Side] | None
    regions: tuple[SentRegion, ...]

    @property
    def key(self) -> str:
        """The candidate."""
        return self.candidate


class SentRanking(Record):
    """The record of a ranking task that was sent, by which its answers are read."""

    request: Id
    candidates: tuple[Id, ...]

    @property
    def key(self) -> str:
        """The request."""
        return self.request


#: A task of either kind, its record once it is sent, and an answer to it.
AnyTask = Task | RankingTask
AnySentTask = SentTask | SentRanking
Answer = Annotation | Ranking
TaskT = TypeVar("TaskT", bound=AnyTask)
TaskT_contra = TypeVar("TaskT_contra", bound=AnyTask, contravariant=True)


class RejectedAnnotation(Record):
    """An answer that cannot be used, or a part of one whose rest is used, and why; nothing of it is lost.

    annotation: its id there; part: '' for all of it, else `result[N]` or a field's name; received: its JSON as it came,
    of a whole one with the rater's pseudonym in the place of the rater.
    """

    task: Annotated[str, Field(max_length=200)]
    annotation: Annotated[str, Field(max_length=200)]
    updated_at: Annotated[str, Field(max_length=40)]
    reason: Annotated[str, Field(pattern="^[a-z_]+$")]
    detail: Annotated[str, Field(max_length=500)]
    received: str
    part: Annotated[str, Field(max_length=40)] = ""


@dataclass(frozen=True)
class Page:
    """Answers of one pull. cursor: what to pull with next; more: whether there is more now.

    rejects: whole answers, and parts of those that stand among `annotations`. tasks_read: how many tasks had their
    answers read for it.
    """

    annotations: tuple[Answer, ...]
    cursor: str
    more: bool
    rejects: tuple[RejectedAnnotation, ...] = ()
    tasks_read: int = 0


class LostAnswer(RegionwiseError):
    """Tasks were sent, and whether they were taken is not known.

    over: whether the server is done with them, so that `find` can tell at once; else they may still turn up.
    """

    def __init__(self, thing: str, fault: str, remedy: str = "", *, over: bool = False) -> None:
        super().__init__(thing, fault, remedy)
        self.over = over


class AnnotationClient(Protocol[TaskT_contra]):
    """Where tasks go and answers come from. project: the name of its tasks in the ledger; batch_tasks: for one push."""

    project: str
    batch_tasks: int

    def count(self) -> int:
        """How many tasks the project has. Raises: BadInput where it does not ask what it must ask."""
        ...

    def find(self, keys: Sequence[str]) -> dict[str, str]:
        """The ids of the tasks that the project has of these keys; one of each, the first."""
        ...

    def get_ready(self, tasks: Sequence[TaskT_contra]) -> None:
        """Says that these tasks will be pushed next or after that, so that they can be made ready meanwhile."""
        ...

    def push(self, tasks: Sequence[TaskT_contra]) -> list[str]:
        """Sends tasks, all or none, and returns their ids there, in order. Raises: LostAnswer."""
        ...

    def pull(self, cursor: str | None) -> Page:
        """New and changed annotations since `cursor`, None for the first; in the order in which they were made."""
        ...


def region_name(index: int, label: str) -> str:
    """What annotators see the region number `index` (from 0) called, `1 the left cup`; no other of its task has it.

    The label is shown as one line of at most `NAME_CHARS` characters.
    """
    line = " ".join(label.split())
    return f"{index + 1} {line if len(line) <= NAME_CHARS else line[: NAME_CHARS - 1] + '…'}"


def sent_task(task: Task) -> SentTask:
    """The record of a rating task."""
    regions = tuple(
        SentRegion(
            region=region.mask.region,
            name=region_name(index, region.label),
            label=region.label,
            role=region.role,
            status=region.mask.status,
        )
        for index, region in enumerate(task.regions)
    )
    return SentTask(candidate=task.candidate, size_hw=task.size_hw, regions=regions)


def sent_record(task: AnyTask) -> AnySentTask:
    """The record of a task of either kind."""
    if isinstance(task, RankingTask):
        return SentRanking(request=task.request, candidates=tuple(one.candidate for one in task.candidates))
    return sent_task(task)
