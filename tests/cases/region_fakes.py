"""A detector and a prompted segmenter whose answers are written down, and requests to give them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.models.protocols import Detection, Prompt, Segment
from runtime.images import ImageU8
from schemas.request import EditRequest, Source, Target
from schemas.sample import ImageRef, Sample

SIDE = 64


@dataclass
class WrittenDetector:
    """Finds for every phrase the boxes that are written down for it; counts its calls."""

    boxes: dict[str, list[tuple[float, float, float, float]]]
    name: str = "written"
    revision: str = "1"
    calls: list[list[tuple[str, ...]]] = field(default_factory=list)

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        assert len(images) == len(phrases)
        self.calls.append([tuple(asked) for asked in phrases])
        return [
            [
                Detection(box, 0.9 - 0.01 * rank, index)
                for index, phrase in enumerate(asked)
                for rank, box in enumerate(self.boxes.get(phrase, []))
            ]
            for asked in phrases
        ]


@dataclass
class ColourSegmenter:
    """Everything in the grown prompt box that is not grey, as a segmenter that knows things would say; counts calls."""

    name: str = "colour"
    revision: str = "1"
    confidence: float = 0.9
    everything: bool = False
    shape: tuple[int, int] | None = None
    calls: list[tuple[int, list[int]]] = field(default_factory=list)

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        self.calls.append((len(images), [len(asked) for asked in prompts]))
        return [
            [Segment(self._mask(image, prompt), self.confidence) for prompt in asked]
            for image, asked in zip(images, prompts, strict=True)
        ]

    def _mask(self, image: ImageU8, prompt: Prompt) -> np.ndarray:
        if self.everything or self.shape:
            return np.ones(self.shape or image.shape[:2], dtype=np.bool_)
        assert prompt.box is not None
        x1, y1, x2, y2 = (round(side) for side in prompt.box)
        inside = np.zeros(image.shape[:2], dtype=np.bool_)
        inside[y1:y2, x1:x2] = True
        return inside & (np.ptp(image.astype(int), axis=2) > 20)


def request(*targets: Target, instruction: str = "do it", turns: tuple[str, ...] = (), number: int = 0) -> EditRequest:
    source = Source(name="s", origin_sha256="0" * 64, pixels_sha256="0" * 64, width_px=SIDE, height_px=SIDE)
    return EditRequest(
        id=f"{number:016x}",
        name=f"r{number}",
        kind="multi_turn" if turns else "single",
        sources=(source,),
        instruction=instruction,
        turns=turns,
        targets=targets,
        edit_type="other",
        synthetic=True,
    )


def sample(asked: EditRequest) -> Sample:
    ref = ImageRef(tar="images/sources/part-00000.tar", offset=0, length=1, sha256="0" * 64, format="png")
    return Sample(key=asked.id, request=asked, sources=(ref,))


def grey() -> ImageU8:
    return np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)


def painted(*boxes: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> ImageU8:
    """Grey, with rectangles of a colour."""
    image = grey()
    for (x1, y1, x2, y2), colour in boxes:
        image[y1:y2, x1:x2] = colour
    return image
