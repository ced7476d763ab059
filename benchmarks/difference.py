"""`python -m benchmarks.difference`: how well what a procedural edit changed is found, as editing models answer.

Ten operations on scenes and photographs that no threshold was tuned on (`benchmarks.edit_cases`, part `test`). Each
edited image is brought into the source's frame (`pipeline.regions.framing`) and compared. First as compression and a
shift of 1 px leave it, then zoomed, turned, shifted, cropped and with a border (`benchmarks.alignment`, JPEG quality 75
to 95, a drift of colour). Figure: IoU with the mask of what the clean edit changed visibly, of what is seen, mean per
operation. False regions: parts of the mask that lie wholly off it. Peer: absolute difference, Otsu's threshold.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.alignment import KINDS, moved_cases
from benchmarks.edit_cases import (
    EDITS,
    PHOTOS,
    SCENE_SEEDS,
    STRENGTHS,
    TRUTH_CLOSE_PX,
    VISIBLE_DELTA_E,
    case_rng,
    edit_cases,
    jpeg,
    photo_window,
    shifted,
)  # fmt: skip
from benchmarks.result import row, write_result
from pipeline.regions.difference import DifferenceSegmenter
from pipeline.regions.framing import frame
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8
from runtime.masks import MaskBool

CASES_PER_OPERATION = 40
JPEG_QUALITY = 85
SHIFTS_PX = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
PEER = "absolute difference + Otsu"
UNEDITED_CASES = 40

Changed = Callable[[ImageU8, ImageU8], MaskBool]
MOVED_PER_OPERATION = 4
#: What is found so near to the truth (px) is a part of it that reaches too far.
NEAR_PX = 4


def ours(source: ImageU8, edited: ImageU8) -> MaskBool:
    """What changed, in the source's frame."""
    framed = frame(source, edited)
    return DifferenceSegmenter().changed(source, framed.image, framed.unseen)


def false_regions(found: MaskBool, truth: MaskBool) -> int:
    """How many parts of a mask lie wholly off the truth."""
    near = cv2.dilate(truth.astype(np.uint8), np.ones((2 * NEAR_PX + 1,) * 2, dtype=np.uint8)) > 0
    count, labels = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)
    return count - 1 - len(set(np.unique(labels[near & found]).tolist()) - {0})


def iou(found: MaskBool, truth: MaskBool) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def otsu(source: ImageU8, edited: ImageU8) -> MaskBool:
    """The peer: largest absolute difference of the channels, Otsu's threshold."""
    difference = cv2.absdiff(source, edited).max(axis=2)
    return np.asarray(cv2.threshold(difference, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1] > 0, dtype=np.bool_)


def mean_iou(changed: tuple[Changed, ...], operation: str, size_px: int, count: int) -> list[list[float]]:
    """IoU (len(changed), count) on the test cases of one operation."""
    figures: list[list[float]] = [[] for _ in changed]
    for index, case in enumerate(edit_cases("test", operation, count, size_px)):
        shift = SHIFTS_PX[index % len(SHIFTS_PX)]
        edited = jpeg(shifted(case.clean, *shift), JPEG_QUALITY)
        for values, method in zip(figures, changed, strict=True):
            values.append(iou(method(case.source, edited), case.truth))
    return figures


@dataclass(frozen=True)
class Moved:
    """Of cases of one kind: IoU by operation, false regions by case, and what the peer finds."""

    ours: dict[str, list[float]]
    peer: list[float]
    false: list[int]


def moved(kind: str, size_px: int) -> Moved:
    """The figures of one kind of map."""
    found = Moved(defaultdict(list), [], [])
    for case, _, edited in moved_cases("test", kind, size_px, MOVED_PER_OPERATION):
        framed = frame(case.source, edited)
        mask = DifferenceSegmenter().changed(case.source, framed.image, framed.unseen)
        truth = case.truth if framed.unseen is None else case.truth & ~framed.unseen
        found.ours[case.operation].append(iou(mask, truth))
        found.peer.append(iou(otsu(case.source, edited), case.truth))
        found.false.append(false_regions(mask, truth))
    return found


def unedited_share(method: Changed, size_px: int) -> float:
    """Share of pixels found as changed where nothing was edited: only drift of colour, a shift and JPEG."""
    shares = []
    for index in range(UNEDITED_CASES):
        rng = case_rng("unedited", index)
        names = PHOTOS["test"]
        scene = render_scene(SCENE_SEEDS["test"], index, size_px).image_hwc_u8
        source = scene if index % 2 else photo_window(names[index // 2 % len(names)], rng, size_px)
        drifted = source * rng.uniform(0.9, 1.1, 3) + rng.uniform(-8, 8)
        moved = shifted(np.clip(drifted, 0, 255).astype(np.uint8), *rng.uniform(-2, 2, 2))
        shares.append(float(method(source, jpeg(moved, JPEG_QUALITY)).mean()))
    return float(np.mean(shares))


def milliseconds(method: Changed, size_px: int) -> float:
    """Median time of one call on one core, ms."""
    times = []
    for case in edit_cases("test", "recolour", 20, size_px):
        begin = time.perf_counter()
        method(case.source, case.clean)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def _against(
    what: str, unit: str, figures: list[float], *, higher_is_better: bool = True, limit: float | None = None
) -> dict[str, Any]:
    """The row of [ours, the peer's]."""
    return row(what, unit, figures[0], figures[1], PEER, higher_is_better=higher_is_better, limit=limit)


def main() -> None:
    """Measures, prints and writes benchmarks/results/difference.json."""
    cv2.setNumThreads(1)
    rows, spread, lowest = [], {}, {}
    for size_px in (256, 128):
        means = []
        for operation in EDITS:
            figures = mean_iou((ours, otsu), operation, size_px, CASES_PER_OPERATION)
            means.append([float(np.mean(values)) for values in figures])
            spread[f"{operation} {size_px}"] = [round(float(q), 3) for q in np.quantile(figures[0], (0, 0.1, 0.5))]
            rows.append(_against(f"{operation} at {size_px} px", "mean IoU", means[-1], limit=1.0))
        macro = [float(value) for value in np.mean(means, axis=0)]
        rows.append(_against(f"macro-average at {size_px} px", "mean IoU", macro, limit=1.0))
        unedited = [unedited_share(method, size_px) for method in (ours, otsu)]
        rows.append(_against(f"unedited at {size_px} px", "share found", unedited, higher_is_better=False, limit=0.0))
        times = [milliseconds(method, size_px) for method in (ours, otsu)]
        rows.append(_against(f"time at {size_px} px", "ms", times, higher_is_better=False))
    for size_px in (256, 512):
        for kind in KINDS:
            found = moved(kind, size_px)
            by_operation = {name: float(np.mean(values)) for name, values in found.ours.items()}
            both = [float(np.mean(list(by_operation.values()))), float(np.mean(found.peer))]
            rows.append(_against(f"moved, {kind}, at {size_px} px", "macro IoU", both, limit=1.0))
            false, why = float(np.mean(found.false)), "the peer knows no regions"
            rows.append(row(f"moved, {kind}, at {size_px} px", "false regions", false, limit=0.1, why=why))
            lowest[f"{kind} {size_px}"] = {name: round(value, 3) for name, value in by_operation.items()}
    write_result(
        "difference",
        rows,
        cases_per_operation=CASES_PER_OPERATION,
        noise=f"JPEG quality {JPEG_QUALITY}, shift of 1 px",
        truth=f"Delta E above {VISIBLE_DELTA_E}, gaps up to {2 * TRUTH_CLOSE_PX} px closed, in the edit's region",
        strengths=STRENGTHS,
        photographs=PHOTOS,
        scene_seeds=SCENE_SEEDS,
        lowest_tenth_median_iou=spread,
        moved_iou_by_operation=lowest,
    )


if __name__ == "__main__":
    main()
