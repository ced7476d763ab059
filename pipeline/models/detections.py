"""What all detectors share: thresholds, clipping, non-maximum suppression, and the check for NaN.

Pure functions over numpy arrays; no model and no torch is known here. The adapters beside it bring the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.protocols import Detection
from schemas.errors import BadInput

Floats = NDArray[np.floating[Any]]

#: A box thinner than this after clipping has no pixel whose centre it is sure to hold.
MIN_SIDE_PX = 0.5


@dataclass(frozen=True)
class DetectSettings:
    """Which answers of a detector are kept. Raises: BadInput for a value out of its range."""

    box_threshold: float = 0.35
    """Least score (0..1) of a box over everything that was asked; the published GroundingDINO demo's value."""
    score_threshold: float = 0.25
    """Least score (0..1) of the phrase that a box answers; the published demo's `text_threshold`."""
    nms_iou: float = 0.7
    """Of two boxes for one phrase that overlap by more (IoU), the weaker goes."""
    max_detections: int = 100
    """Most detections of an image, best first."""
    batch_size: int = 8
    """Images (or image-phrase pairs) in one forward; halved where memory runs out."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name in ("max_detections", "batch_size")
            good = isinstance(value, int) and value >= 1 if whole else 0 <= value <= 1
            if not good:
                wanted = "a whole number from 1" if whole else "a number from 0 to 1"
                raise BadInput(f"detector setting {field.name}", f"is {value!r}", f"give {wanted}")


@dataclass(frozen=True)
class RawDetections:
    """Boxes as a model answered them for one image, before anything is left out.

    boxes: (N, 4) x1, y1, x2, y2 in pixels of the image, perhaps beyond it. best: (N,) score of the box over everything
    asked, 0..1. scores: (N,) score of its phrase, 0..1. phrases: (N,) index of the phrase it answers.
    """

    boxes: Floats
    best: Floats
    scores: Floats
    phrases: NDArray[np.intp]


def select_detections(
    found: Sequence[RawDetections], width_px: int, height_px: int, settings: DetectSettings
) -> list[Detection]:
    """The boxes of an image that are kept, best first: above the thresholds, clipped, suppressed, at most so many."""
    if not found:
        return []
    boxes = clipped(np.concatenate([part.boxes for part in found]), width_px, height_px)
    best = np.concatenate([part.best for part in found])
    scores = np.concatenate([part.scores for part in found])
    phrases = np.concatenate([part.phrases for part in found])
    sides = boxes[:, 2:] - boxes[:, :2]
    good = (best >= settings.box_threshold) & (scores >= settings.score_threshold) & (sides >= MIN_SIDE_PX).all(axis=1)
    boxes, scores, phrases = boxes[good], scores[good], phrases[good]
    order = np.lexsort((*boxes.T[::-1], phrases, -scores))
    boxes, scores, phrases = boxes[order], scores[order], phrases[order]
    kept = non_maximum_suppression(boxes, phrases, settings.nms_iou)[: settings.max_detections]
    return [
        Detection(tuple(float(side) for side in boxes[index]), float(scores[index]), int(phrases[index]))  # type: ignore[arg-type]
        for index in kept
    ]


def clipped(boxes: Floats, width_px: int, height_px: int) -> Floats:
    """Boxes (N, 4) cut to the image; one that lies beyond it loses all its area."""
    limits = np.array([width_px, height_px, width_px, height_px], dtype=np.float64)
    return np.clip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), 0.0, limits)


def non_maximum_suppression(boxes: Floats, phrases: NDArray[np.intp], most_iou: float) -> list[int]:
    """Indices of `boxes` (N, 4, best first) that overlap no better one of the same phrase by more than `most_iou`."""
    left: NDArray[np.intp] = np.arange(len(boxes))
    kept: list[int] = []
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        same = phrases[left] == phrases[first]
        left = left[~(same & (box_iou(boxes[first], boxes[left]) > most_iou))]
    return kept


def box_iou(box: Floats, others: Floats) -> Floats:
    """IoU of `box` (4,) with each of `others` (N, 4), 0 where both are empty."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - common
    return np.asarray(common / np.maximum(union, 1e-12))


def check_finite(model: str, **answers: Floats) -> None:
    """Raises: BadInput, naming the model and the answer, where a number is NaN or infinite."""
    for name, numbers in answers.items():
        bad = int(np.size(numbers) - np.isfinite(numbers).sum())
        if bad:
            raise BadInput(
                model,
                f"answered {bad} of {np.size(numbers)} {name} that are NaN or infinite",
                "check the checkpoint with another tool, or run it in fp32",
            )
