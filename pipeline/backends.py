"""What a backend has to offer, as Protocols, and how its spec (`name` or `name:checkpoint`) is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.images import ImageU8, MaskBool
from schemas.candidate import AppliedEdit, Defect
from schemas.errors import BadInput
from schemas.record import Scalar
from schemas.request import EditRequest


@dataclass(frozen=True)
class Edit:
    """One edited image and how it was made. image: HWC uint8 RGB, the size of the canvas (sources[0]).

    edits, defects: what was done by construction, from which an oracle score follows; empty where unknown.
    """

    image: ImageU8
    seed: int | None
    parameters: dict[str, Scalar]
    edits: tuple[AppliedEdit, ...] = ()
    defects: tuple[Defect, ...] = ()


class Editor(Protocol):
    """Makes edited images. name, revision: what stands in the candidate's record; synthetic: no real model made it."""

    name: str
    revision: str
    synthetic: bool

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """Candidate number `index` of `request`; the same arguments give the same pixels.

        Raises: CannotEdit where this editor cannot carry out this request.
        """
        ...


class CannotEdit(ValueError):
    """An editor cannot carry out a request; `reason` is the code of the reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Segmenter(Protocol):
    """Finds what changed between a source and an edited image."""

    name: str
    revision: str

    def changed(self, source: ImageU8, edited: ImageU8) -> MaskBool:
        """Mask (H, W) in the edited frame of the pixels that were edited, global drift and noise left out."""
        ...


@dataclass(frozen=True)
class Detection:
    """A thing found on an image. box: x1, y1, x2, y2 in pixels of that image, half-open; score: 0..1.

    phrase: the index of the phrase that it answers, in the order they were asked.
    """

    box: tuple[float, float, float, float]
    score: float
    phrase: int


class Detector(Protocol):
    """Finds the things that phrases name."""

    name: str
    revision: str

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """For each image the things found for its phrases, best first; boxes are finite and inside the image."""
        ...


@dataclass(frozen=True)
class Prompt:
    """Where a thing is: a box (x1, y1, x2, y2 in pixels of the image), points (x, y, is it on the thing), or both."""

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()


@dataclass(frozen=True)
class Segment:
    """The mask (H, W) of a prompted thing and how sure its model is of it, 0..1 (predicted IoU)."""

    mask: MaskBool
    confidence: float


class PromptSegmenter(Protocol):
    """Outlines the things that prompts point at."""

    name: str
    revision: str

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        """For each image one segment per prompt, in the order of its prompts."""
        ...


def parse_spec(spec: str, known: tuple[str, ...], what: str) -> tuple[str, str | None]:
    """(name, checkpoint) of a backend spec. Raises: BadInput for a name that is not known."""
    name, _, checkpoint = spec.partition(":")
    if name not in known:
        raise BadInput(f"{what} {spec!r}", "is not known", f"choose one of {', '.join(known)}")
    return name, checkpoint or None
