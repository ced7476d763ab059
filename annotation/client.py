"""What every source of annotations does, simulated raters and a labelling server alike: takes tasks, gives answers.

A task is one candidate with its regions. Pulling is incremental: a cursor says what was handed out already, and the one
who pulls stores the answers before the cursor, so that a crash repeats answers and loses none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field

from schemas.record import Id, Record
from schemas.region import ObservedMask
from schemas.request import Instruction, Label, Role
from schemas.sample import ImageRef
from schemas.score import Annotation


class TaskRegion(Record):
    """One region to rate, with the mask to show for it; role: what the instruction wants here, None for nothing."""

    label: Label
    role: Role | None
    mask: ObservedMask


class Task(Record):
    """One candidate to rate. index: its place among the run's candidates, from 0. Images: places in the run folder."""

    candidate: Id
    index: Annotated[int, Field(ge=0)]
    instruction: Instruction
    sources: tuple[ImageRef, ...]
    edited: ImageRef
    regions: tuple[TaskRegion, ...]


@dataclass(frozen=True)
class Page:
    """Answers of one pull. cursor: what to pull with next; more: whether there is more now."""

    annotations: tuple[Annotation, ...]
    cursor: str
    more: bool


class AnnotationClient(Protocol):
    """Where tasks go and answers come from. project: the name of its tasks in the ledger."""

    project: str

    def push(self, tasks: Sequence[Task]) -> list[str]:
        """Sends tasks and returns their ids there, in order."""
        ...

    def pull(self, cursor: str | None) -> Page:
        """New and changed annotations since `cursor`, None for the first; in the order in which they were made."""
        ...
