"""Masks in memory, (H, W) bool, to and from COCO's compressed RLE as records hold it; a hostile RLE is a ValueError."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from schemas.geometry import Box, CocoRle

MaskBool = NDArray[np.bool_]


def mask_to_rle(mask_hw: MaskBool) -> CocoRle:
    """A mask (H, W, bool) as COCO's compressed RLE."""
    columns = _transposed(np.ascontiguousarray(mask_hw, dtype=np.uint8))
    encoded: Any = coco_mask.encode(columns.T)
    return CocoRle(size=(mask_hw.shape[0], mask_hw.shape[1]), counts=encoded["counts"].decode("ascii"))


def rle_to_mask(rle: CocoRle) -> MaskBool:
    """The mask (H, W, bool) of a COCO RLE.

    Raises: ValueError where the runs do not fill the stated size (pycocotools would read past them in silence).
    """
    runs = rle_runs(rle.counts)
    if sum(runs) != rle.size[0] * rle.size[1]:
        raise ValueError(f"RLE does not fill its size {list(rle.size)}")
    inside = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(inside, runs).reshape(rle.size[1], rle.size[0])
    return np.asarray(_transposed(columns.view(np.uint8))).view(np.bool_)


def _transposed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows as columns, laid out anew; numpy takes nine times as long where the sides are powers of two."""
    import cv2

    return np.asarray(cv2.transpose(values), dtype=np.uint8)


def rle_runs(counts: str) -> list[int]:
    """The run lengths in a COCO compressed RLE string. Raises: ValueError for a string that is none.

    Source: rleFrString in pycocotools' maskApi.c (5 bits a character, LEB128-like, then differences).
    """
    runs: list[int] = []
    value = shift = 0
    open_run = False
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("not a COCO RLE string")
        value |= (bits & 0x1F) << shift
        shift += 5
        open_run = bool(bits & 0x20)
        if not open_run:
            if bits & 0x10:
                value |= -1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            if runs[-1] < 0:
                raise ValueError("not a COCO RLE string: a negative run")
            value = shift = 0
    if open_run:
        raise ValueError("not a COCO RLE string: it ends inside a run")
    return runs


def mask_box(mask_hw: MaskBool) -> Box | None:
    """The tight half-open box [x1, y1, x2, y2] around a mask, in pixels; None for an empty one."""
    if not mask_hw.any():
        return None
    ys, xs = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
