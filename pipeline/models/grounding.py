"""What both GroundingDINO adapters share: phrases to captions, images to pixels, token scores to boxes per phrase.

The model itself is a `GroundingModel` that the adapter brings; no torch is known here. Images of one batch have one
size, so that none is padded, and their captions one layout of phrases: groundingdino-py 0.4.0 gives the mask of which
tokens see each other to the wrong captions of a batch where these differ. So no answer depends on its company.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.models.batches import ShrinkingBatches
from pipeline.models.detections import DetectSettings, Floats, RawDetections, check_finite, select_detections
from pipeline.models.protocols import Detection
from runtime.images import ImageU8

Pixels = NDArray[np.float32]
Span = tuple[int, int]
#: (first character, behind its last) in the text of every token, also of the special ones, which are empty.
Offsets = Callable[[str], Sequence[Span]]

MAX_TOKENS = 256
MAX_PHRASE_CHARACTERS = 200
#: They end a phrase for the model, or are tokens of its own: in a phrase they are text like a space.
_SEPARATORS = str.maketrans(dict.fromkeys(".?!;[]", " "))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes pixels: its short side is scaled to short_px, its long side to at most long_px.

    mean, std: of each channel, in [0, 1]. The values are those of the published GroundingDINO (ImageNet's).
    """

    short_px: int = 800
    long_px: int = 1333
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Caption:
    """A text that asks for several phrases. spans: for each its index and the range of its tokens."""

    text: str
    spans: tuple[tuple[int, Span], ...]


class GroundingModel(Protocol):
    """A GroundingDINO, whoever wrote its code."""

    def answer(self, pixels: Pixels, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """Boxes (B, Q, 4) as centre x, y, width, height in shares of the image, and logits (B, Q, T) of the tokens.

        pixels: (B, 3, H, W), one size for all. A token that is none has the logit -inf.
        """
        ...


@dataclass(frozen=True)
class _Job:
    image: int
    size: tuple[int, int]
    caption: Caption


class GroundingDetector:
    """A `Detector` (`pipeline.models.protocols`) over a GroundingDINO. revision: the hash of its files."""

    def __init__(
        self,
        name: str,
        revision: str,
        model: GroundingModel,
        offsets: Offsets,
        settings: DetectSettings,
        preprocessing: Preprocessing,
    ) -> None:
        self.name, self.revision, self.settings = name, revision, settings
        self._model, self._offsets, self._preprocessing = model, offsets, preprocessing
        self._batches = ShrinkingBatches(settings.batch_size, self._title())

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """For each image the things found for its phrases, best first; boxes are finite and inside the image.

        Raises: BadInput where the model answers NaN; OutOfMemory where one image does not fit into memory.
        """
        sizes = [scaled_size(image.shape[1], image.shape[0], self._preprocessing) for image in images]
        jobs = [
            _Job(index, size, caption)
            for index, (size, asked) in enumerate(zip(sizes, phrases, strict=True))
            for caption in captions_of(asked, self._offsets)
        ]
        found: list[list[RawDetections]] = [[] for _ in images]
        for same in _batchable(jobs):
            answers = self._batches.run(same, lambda batch: self._answer(batch, images))
            for job, (boxes, logits) in zip(same, answers, strict=True):
                height_px, width_px = images[job.image].shape[:2]
                found[job.image].append(raw_detections(boxes, logits, job.caption, width_px, height_px))
        return [
            select_detections(parts, image.shape[1], image.shape[0], self.settings)
            for parts, image in zip(found, images, strict=True)
        ]

    def _answer(self, batch: Sequence[_Job], images: Sequence[ImageU8]) -> list[tuple[Floats, Floats]]:
        pixels = np.stack([preprocessed(images[job.image], job.size, self._preprocessing) for job in batch])
        boxes, logits = self._model.answer(pixels, [job.caption.text for job in batch])
        check_finite(self._title(), boxes=boxes)
        for row, job in enumerate(batch):
            asked = np.concatenate([np.arange(*span) for _, span in job.caption.spans])
            check_finite(self._title(), scores=logits[row][:, asked])
        return [(boxes[row], logits[row]) for row in range(len(batch))]

    def _title(self) -> str:
        return f"{self.name} {self.revision}"


def phrase_text(phrase: str) -> str:
    """A phrase as it stands in a caption: lower case, single spaces, nothing in it that would end it."""
    return " ".join(phrase.lower().translate(_SEPARATORS).split())[:MAX_PHRASE_CHARACTERS].strip()


def captions_of(phrases: Sequence[str], offsets: Offsets) -> Iterator[Caption]:
    """Captions that ask for all `phrases`, each as long as the model's text may be; a phrase without words is left out.

    Source: "cat. dog." as in the published demo.
    """
    texts = [(index, text) for index, text in enumerate(map(phrase_text, phrases)) if text]
    group: list[tuple[int, str]] = []
    tokens = 2  # [CLS] and [SEP]
    for index, text in texts:
        more = sum(end > start for start, end in offsets(text)) + 1
        if more == 1:
            continue
        if group and tokens + more > MAX_TOKENS:
            yield _caption(group, offsets)
            group, tokens = [], 2
        group.append((index, text))
        tokens += more
    if group:
        yield _caption(group, offsets)


def _caption(group: Sequence[tuple[int, str]], offsets: Offsets) -> Caption:
    text, places = "", []
    for index, phrase in group:
        start = len(text) + bool(text)
        text += f"{' ' if text else ''}{phrase}."
        places.append((index, (start, start + len(phrase))))
    tokens = offsets(text)
    return Caption(text, tuple((index, token_span(tokens, place)) for index, place in places))


def token_span(tokens: Sequence[Span], place: Span) -> Span:
    """The range of the tokens that lie within characters `place`. Raises: ValueError where there is none."""
    inside = [n for n, (start, end) in enumerate(tokens) if end > start >= place[0] and end <= place[1]]
    if not inside:
        raise ValueError(f"no token within characters {place}")
    return inside[0], inside[-1] + 1


def raw_detections(boxes: Floats, logits: Floats, caption: Caption, width_px: int, height_px: int) -> RawDetections:
    """Every query's box in pixels, with the phrase it answers: that of the highest mean over its tokens.

    A mean tells "red cup" from "blue cup", of which a maximum sees the shared noun alone. The score is the phrase's
    best token, as the published thresholds mean it. boxes: (Q, 4) centre and size in shares; logits: (Q, T).
    """
    spans = [span for _, span in caption.spans]
    scores = 1 / (1 + np.exp(-np.clip(np.asarray(logits, dtype=np.float64), -80, 80)))
    means = np.stack([scores[:, start:end].mean(axis=1) for start, end in spans], axis=1)
    highest = np.stack([scores[:, start:end].max(axis=1) for start, end in spans], axis=1)
    chosen = means.argmax(axis=1)
    return RawDetections(
        boxes=corners(np.asarray(boxes, dtype=np.float64)) * [width_px, height_px, width_px, height_px],
        best=highest.max(axis=1),
        scores=highest[np.arange(len(chosen)), chosen],
        phrases=np.array([index for index, _ in caption.spans], dtype=np.intp)[chosen],
    )


def corners(boxes: Floats) -> Floats:
    """Boxes (N, 4) from centre x, y, width, height to x1, y1, x2, y2."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def scaled_size(width_px: int, height_px: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """(width, height) that an image is scaled to; an image of any size and shape gets at least one pixel a side."""
    short, long = min(width_px, height_px), max(width_px, height_px)
    target = preprocessing.short_px
    if long / short * target > preprocessing.long_px:
        target = round(preprocessing.long_px * short / long)
    scale = target / short if target else preprocessing.long_px / long
    if width_px <= height_px:
        return max(1, target), max(1, int(height_px * scale))
    return max(1, int(width_px * scale)), max(1, target)


def preprocessed(image: ImageU8, size: tuple[int, int], preprocessing: Preprocessing) -> Pixels:
    """`image` (HWC uint8) scaled to `size` (width, height; bilinear) and normalised: (3, height, width)."""
    scaled = np.asarray(Image.fromarray(image, "RGB").resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    normalised = (scaled / 255 - np.array(preprocessing.mean, np.float32)) / np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def _batchable(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    groups: dict[tuple[tuple[int, int], tuple[Span, ...]], list[_Job]] = {}
    for job in jobs:
        groups.setdefault((job.size, tuple(span for _, span in job.caption.spans)), []).append(job)
    yield from groups.values()
