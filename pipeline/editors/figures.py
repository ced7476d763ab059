"""Drawn things that fill a place: shapes stretched to a box, surface patterns, lettering. Grey values, no colour."""

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.editors.shapes import ImageF32, shape_coverage
from schemas.geometry import Box

TEXTURES = ("stripes", "checker", "dots", "waves", "bricks", "noise")
_CANVAS_PX = 128


@lru_cache(maxsize=16)
def _tight_shape(shape: str) -> ImageF32:
    window = (0, 0, _CANVAS_PX + 8, _CANVAS_PX + 8)
    centre = (_CANVAS_PX / 2 + 4, _CANVAS_PX / 2 + 4)
    coverage = shape_coverage(shape, centre, _CANVAS_PX / 2, 0.0, window)
    ys, xs = np.flatnonzero((coverage > 0.5).any(axis=1)), np.flatnonzero((coverage > 0.5).any(axis=0))
    return np.ascontiguousarray(coverage[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1])


def shape_in_box(shape: str, box: Box, height_px: int, width_px: int) -> ImageF32:
    """How much of each pixel of the image a shape covers that fills `box` to its four sides: (H, W) float32 in [0, 1].

    Raises: KeyError for a shape that is not in `pipeline.editors.shapes.SHAPES`.
    """
    x1, y1, x2, y2 = box
    coverage = np.zeros((height_px, width_px), dtype=np.float32)
    tight = _tight_shape(shape)
    way = cv2.INTER_AREA if x2 - x1 < tight.shape[1] or y2 - y1 < tight.shape[0] else cv2.INTER_LINEAR
    coverage[y1:y2, x1:x2] = cv2.resize(tight, (x2 - x1, y2 - y1), interpolation=way)
    return coverage


def texture_pattern(texture: str, box: Box, height_px: int, width_px: int, phase: int) -> ImageF32:
    """A surface pattern over the whole image, (H, W) float32 in [-1, 1], five periods to the box.

    phase: shifts the pattern, and seeds the pattern `noise`. Raises: KeyError for a name not in `TEXTURES`.
    """
    period = max(6.0, min(box[2] - box[0], box[3] - box[1]) / 5.0)
    ys, xs = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    u, v = (xs - box[0]) / period + (phase % 97) / 97, (ys - box[1]) / period + (phase % 89) / 89
    patterns = {
        "stripes": lambda: _hard(np.sin(2 * np.pi * (u + v) * 0.75), period),
        "checker": lambda: _hard(np.sin(np.pi * u) * np.sin(np.pi * v) * 2, period),
        "dots": lambda: _hard(0.36 - np.hypot(u % 1 - 0.5, v % 1 - 0.5), 5 * period),
        "waves": lambda: _hard(np.sin(2 * np.pi * (v + 0.22 * np.sin(2 * np.pi * u * 0.5))), period),
        "bricks": lambda: _bricks(u * 0.8, v * 1.3, period),
        "noise": lambda: _clouds(height_px, width_px, period, phase),
    }
    return np.asarray(patterns[texture](), dtype=np.float32)


def _hard(values: NDArray[np.float32], period_px: float) -> NDArray[np.float32]:
    """A step at zero, softened over about one pixel."""
    return np.asarray(np.clip(values * period_px / 5, -1, 1), dtype=np.float32)


def _bricks(u: NDArray[np.float32], v: NDArray[np.float32], period_px: float) -> NDArray[np.float32]:
    row = np.floor(v)
    across = (u + 0.5 * (row % 2)) % 1
    joint = np.minimum(np.minimum(across, 1 - across), np.minimum(v % 1, 1 - v % 1))
    return _hard(np.asarray(joint - 0.14, dtype=np.float32), 5 * period_px)


def _clouds(height_px: int, width_px: int, period_px: float, phase: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(phase)
    rough = rng.standard_normal((height_px, width_px), dtype=np.float32)
    blobs = cv2.GaussianBlur(rough, (0, 0), max(1.0, period_px / 7))
    return np.asarray(np.clip(1.1 * blobs / max(float(blobs.std()), 1e-6), -1, 1), dtype=np.float32)


def lettering(text: str, box: Box, height_px: int, width_px: int) -> tuple[ImageF32, ImageF32]:
    """(letters, letters with rim): coverage (H, W) float32 in [0, 1] of `text`, as large as fits in `box`."""
    x1, y1, x2, y2 = box
    size, wide, high = 40, 0.86 * (x2 - x1), 0.8 * (y2 - y1)
    left, top, right, bottom = ImageFont.load_default(size).getbbox(text)
    size = max(5, math.floor(size * min(wide / max(right - left, 1), high / max(bottom - top, 1))))
    font, rim = ImageFont.load_default(size), max(1, round(size / 14))
    where = ((x1 + x2) / 2, (y1 + y2) / 2)
    layers = []
    for stroke in (0, rim):
        layer = Image.new("L", (width_px, height_px), 0)
        ImageDraw.Draw(layer).text(where, text, fill=255, font=font, anchor="mm", stroke_width=stroke)
        layers.append(np.asarray(layer, dtype=np.float32) / np.float32(255))
    return layers[0], layers[1]
