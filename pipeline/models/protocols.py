"""What a detector and a segmenter have to offer, as Protocols, and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.images import ImageU8
from runtime.masks import MaskBool


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
