"""Masks of all shapes, made from a number: what a codec of masks is tried on."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from runtime.masks import MaskBool

MAX_SIDE_PX = 97


def _one_pixel(drawn: np.random.Generator, height: int, width: int) -> MaskBool:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[drawn.integers(height), drawn.integers(width)] = True
    return mask


def _box_with_hole(drawn: np.random.Generator, height: int, width: int) -> MaskBool:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[: height - height // 4, width // 5 :] = True
    mask[height // 3 : height // 2, width // 3 : width // 2] = False
    return mask


def _stripes(drawn: np.random.Generator, height: int, width: int) -> MaskBool:
    return np.asarray(np.arange(height * width).reshape(height, width) // int(drawn.integers(1, 9)) % 2 == 0)


def _blobs(drawn: np.random.Generator, height: int, width: int) -> MaskBool:
    return np.asarray(gaussian_filter(drawn.random((height, width)), 1 + 3 * drawn.random()) > 0.5)


def _noise(drawn: np.random.Generator, height: int, width: int) -> MaskBool:
    return np.asarray(drawn.random((height, width)) < drawn.random())


SHAPES: tuple[Callable[[np.random.Generator, int, int], MaskBool], ...] = (
    lambda drawn, height, width: np.zeros((height, width), dtype=np.bool_),
    lambda drawn, height, width: np.ones((height, width), dtype=np.bool_),
    _one_pixel,
    _box_with_hole,
    _stripes,
    _blobs,
    _noise,
)


def mask_case(number: int) -> MaskBool:
    """Mask `number` (H, W, bool): the shapes in turn, sides of 1 to 97 px, one in fifty of 200 to 700 px."""
    drawn = np.random.default_rng(number)
    low, high = (200, 700) if number % 50 == 49 else (1, MAX_SIDE_PX)
    height, width = (int(side) for side in drawn.integers(low, high + 1, 2))
    return SHAPES[number % len(SHAPES)](drawn, height, width)


def region_masks(number: int, side_px: int, n_masks: int) -> list[MaskBool]:
    """The masks of a task: blobs such as a segmenter finds, each in a part of its own of a square image."""
    drawn = np.random.default_rng((1, number))
    ys, xs = np.mgrid[:side_px, :side_px] / side_px
    found = []
    for index in range(n_masks):
        y, x, radius = drawn.uniform(0.2, 0.8), (index + 0.5) / n_masks, drawn.uniform(0.08, 0.16)
        wobble = gaussian_filter(drawn.random((side_px, side_px)), side_px / 40) * 4
        found.append(np.asarray(((ys - y) ** 2 + (xs - x) ** 2) ** 0.5 < radius * (wobble - 1)))
    return found
