"""Masks of several annotators on one candidate: how far they overlap, and one mask that they make together.

Masks come from outside, as COCO RLE that nobody has checked: one whose runs do not fill its size overlaps nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from runtime.masks import MaskBool, mask_box, mask_to_rle, rle_runs, rle_to_mask
from schemas.geometry import CocoRle

Floats = NDArray[np.float64]
#: From so many masks on, annotators are told apart by how well they outline; fewer say too little of each other.
EM_RATERS = 3
#: What is larger than any image that the pipeline reads is damaged.
MAX_PIXELS = 64_000_000


@lru_cache(maxsize=8_192)
def area_px(rle: CocoRle) -> int | None:
    """Pixels in a mask, None where its runs do not fill its size."""
    if rle.size[0] * rle.size[1] > MAX_PIXELS:
        return None
    try:
        runs = rle_runs(rle.counts)
    except ValueError:
        return None
    return sum(runs[1::2]) if sum(runs) == rle.size[0] * rle.size[1] else None


def _coco(rle: CocoRle) -> dict[str, Any]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}


def overlaps(first: Sequence[CocoRle], second: Sequence[CocoRle]) -> Floats:
    """IoU of each of `first` with each of `second`, (len(first), len(second)).

    Two empty masks of one size have 1; masks of different sizes, and damaged ones, 0.
    """
    found = np.zeros((len(first), len(second)))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            found[i, j] = _overlap(one, other)
    return found


@lru_cache(maxsize=8_192)
def _overlap(one: CocoRle, other: CocoRle) -> float:
    areas = area_px(one), area_px(other)
    if one.size != other.size or areas[0] is None or areas[1] is None:
        return 0.0
    if one == other:
        return 1.0
    if not areas[0] or not areas[1]:
        return 0.0
    return float(coco_mask.iou([_coco(one)], [_coco(other)], [0])[0, 0])


def joint_mask(masks: Sequence[CocoRle]) -> CocoRle | None:
    """One mask from several of one region; None where none is whole.

    Masks of the most frequent size count (of equals the smallest); equal masks give themselves. Two: a pixel that one
    of them has. Three and more: single-coin Dawid-Skene over pixels, so who outlines badly counts less.
    Source: D. Jung-Lin Lee et al., Aggregating Crowdsourced Image Segmentations (2018), as crowd-kit has it.
    """
    whole = [mask for mask in masks if area_px(mask) is not None]
    if not whole:
        return None
    sizes = [mask.size for mask in whole]
    size = min(set(sizes), key=lambda one: (-sizes.count(one), one))
    fitting = sorted((mask for mask in whole if mask.size == size), key=lambda mask: mask.counts)
    if len(set(fitting)) == 1:
        return fitting[0]
    decoded = np.stack([rle_to_mask(mask) for mask in fitting])
    x1, y1, x2, y2 = mask_box(np.asarray(decoded.any(axis=0))) or (0, 0, 1, 1)
    joint = np.zeros(size, dtype=np.bool_)
    joint[y1:y2, x1:x2] = _aggregate(decoded[:, y1:y2, x1:x2])
    return mask_to_rle(joint)


def _aggregate(masks: MaskBool) -> MaskBool:
    """masks: (raters, H, W), at least one pixel set."""
    if len(masks) < EM_RATERS:
        return np.asarray(2 * masks.sum(axis=0) >= len(masks), dtype=np.bool_)
    import pandas as pd
    from crowdkit.aggregation import SegmentationEM

    rows = [("region", number, mask) for number, mask in enumerate(masks)]
    with np.errstate(over="ignore", invalid="ignore"):  # its loss, not its masks, goes through sums of -inf
        found = SegmentationEM().fit_predict(pd.DataFrame(rows, columns=["task", "worker", "segmentation"]))
    return np.asarray(found["region"], dtype=np.bool_)
