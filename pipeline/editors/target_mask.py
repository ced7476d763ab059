"""The pixels that a target means: its exact mask where the request has one, else what can be told from its box.

GrabCut runs on a small copy of the box with a fixed seed, so the same image and target give the same mask.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.figures import shape_in_box
from pipeline.editors.shapes import SHAPES
from runtime.images import ImageU8, box_mask, resize_mask
from runtime.masks import MaskBool, rle_to_mask
from schemas.geometry import Box
from schemas.request import Target

GRABCUT_SIDE_PX = 112
GRABCUT_ITERATIONS = 3
GRABCUT_SEED = 20_240
#: A GrabCut mask that fills less or more of its box than this is not believed.
BOX_SHARE = (0.15, 0.95)
_MARGIN = 0.3


def target_mask(image: ImageU8, target: Target) -> MaskBool:
    """Mask (H, W, bool) of the pixels of `image` that `target` means.

    Its RLE where it has one; the shape that fills the box for something to be added; the box for text;
    else GrabCut from the box, or the ellipse in the box where GrabCut is not to be believed.
    Raises: ValueError where the target has neither box nor mask, or the box leaves no pixel inside the image.
    """
    height, width = image.shape[:2]
    if target.mask is not None:
        exact = resize_mask(rle_to_mask(target.mask), width, height)
        if exact.any():
            return exact
    if target.box is None:
        raise ValueError(f"target {target.label!r} has neither box nor mask")
    box = clip_box(target.box, width, height)
    if target.role == "add" or target.operation == "insert":
        shape = str(target.parameters.get("shape", ""))
        return shape_in_box(shape, box, height, width) >= 0.5 if shape in SHAPES else box_mask(box, height, width)
    return box_mask(box, height, width) if target.operation == "text" else thing_in_box(image, box)


def clip_box(box: Box, width_px: int, height_px: int) -> Box:
    """`box` cut to the image. Raises: ValueError where nothing is left."""
    x1, y1, x2, y2 = box[0], box[1], min(box[2], width_px), min(box[3], height_px)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {list(box)} lies outside the image of {width_px} x {height_px} px")
    return x1, y1, x2, y2


def thing_in_box(image: ImageU8, box: Box) -> MaskBool:
    """The thing that fills `box` (clipped to the image): GrabCut, cleaned; else the ellipse in the box."""
    height, width = image.shape[:2]
    found = _grabcut(image, box)
    inside = box_mask(box, height, width)
    share = float((found & inside).sum()) / float(inside.sum())
    return found & inside if BOX_SHARE[0] <= share <= BOX_SHARE[1] else ellipse_in_box(box, height, width)


def ellipse_in_box(box: Box, height_px: int, width_px: int) -> MaskBool:
    """The ellipse that touches the four sides of `box`, as a mask (H, W, bool)."""
    x1, y1, x2, y2 = box
    ys, xs = np.mgrid[0:height_px, 0:width_px]
    dx = (xs + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    dy = (ys + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    return np.asarray(dx * dx + dy * dy <= 1, dtype=np.bool_)


def _grabcut(image: ImageU8, box: Box) -> MaskBool:
    """GrabCut on a small copy of the box and its surroundings; an empty mask where there is nothing to tell it from."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    mx, my = max(4, int((x2 - x1) * _MARGIN)), max(4, int((y2 - y1) * _MARGIN))
    wx1, wy1, wx2, wy2 = max(0, x1 - mx), max(0, y1 - my), min(width, x2 + mx), min(height, y2 + my)
    window = image[wy1:wy2, wx1:wx2]
    scale = min(1.0, GRABCUT_SIDE_PX / max(window.shape[:2]))
    small = cv2.resize(window, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else window
    fy, fx = small.shape[0] / window.shape[0], small.shape[1] / window.shape[1]
    trimap: Any = np.full(small.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    trimap[
        int((y1 - wy1) * fy) : int(np.ceil((y2 - wy1) * fy)), int((x1 - wx1) * fx) : int(np.ceil((x2 - wx1) * fx))
    ] = cv2.GC_PR_FGD
    found = np.zeros((height, width), dtype=np.bool_)
    known_outside, maybe = int((trimap == cv2.GC_BGD).sum()), int((trimap == cv2.GC_PR_FGD).sum())
    if known_outside < 32 or maybe < 32 or float(small.std()) < 1.0:
        return found
    cv2.setRNGSeed(GRABCUT_SEED)
    outside_model, thing_model, no_rectangle = np.zeros((1, 65)), np.zeros((1, 65)), (0, 0, 1, 1)
    pixels = np.ascontiguousarray(small)
    cv2.grabCut(pixels, trimap, no_rectangle, outside_model, thing_model, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_MASK)
    cleaned = _clean((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD))
    size = (window.shape[1], window.shape[0])
    found[wy1:wy2, wx1:wx2] = cv2.resize(cleaned.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    return found


def _clean(mask_hw: MaskBool) -> MaskBool:
    """Speckles off, the larger pieces kept, holes filled, one pixel wider than found: no rim of the thing stays."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(mask_hw.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
    number, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=4)
    if number < 2:
        return np.zeros(mask_hw.shape, dtype=np.bool_)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.isin(labels, 1 + np.flatnonzero(areas >= 0.25 * areas.max())).astype(np.uint8)
    contours, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: NDArray[np.uint8] = np.zeros(mask_hw.shape, dtype=np.uint8)
    cv2.drawContours(filled, contours, -1, 1, thickness=-1)
    return np.asarray(cv2.dilate(filled, np.ones((3, 3), dtype=np.uint8)), dtype=np.bool_)
