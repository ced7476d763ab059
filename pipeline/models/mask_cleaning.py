"""Takes small holes and small islands out of a mask, as models that draw masks leave them."""

from typing import Any

import cv2
import numpy as np

from runtime.masks import MaskBool


def without_specks(mask_hw: MaskBool, hole_share: float, island_share: float) -> MaskBool:
    """A copy of a mask with small holes filled, then without its small islands; the largest island always stays.

    What is small: less than that share of the mask's area. Source: `remove_small_regions` of segment-anything, which
    takes an area in pixels.
    """
    cleaned = mask_hw.copy()
    if hole_share and cleaned.any():
        cleaned = ~_large_parts(~cleaned, hole_share * int(cleaned.sum()), keep_largest=False)
    if island_share and cleaned.any():
        cleaned = _large_parts(cleaned, island_share * int(cleaned.sum()), keep_largest=True)
    return cleaned


def _large_parts(mask: MaskBool, min_area_px: float, keep_largest: bool) -> MaskBool:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas: Any = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= min_area_px
    if keep_largest and count > 1:
        kept[1 + int(areas[1:].argmax())] = True
    kept[0] = False
    return np.asarray(kept[labels], dtype=np.bool_)
