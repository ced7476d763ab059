"""The vocabulary of drawn things: colours by name and shapes as outlines, rasterised with soft edges.

Covers flat geometry and colour only: light, patterns and shadows belong to `pipeline.requests.scenes.render`.
"""

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ImageF32 = NDArray[np.float32]

#: Colour name -> sRGB, 0..255. No two are nearer than 25 in CIE Lab (`colour_distance`), which a test holds to.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 44),
    "orange": (247, 130, 24),
    "yellow": (250, 214, 44),
    "green": (44, 160, 66),
    "cyan": (52, 198, 214),
    "blue": (38, 92, 216),
    "purple": (132, 58, 182),
    "pink": (250, 140, 190),
    "brown": (122, 74, 40),
    "white": (246, 246, 242),
    "black": (26, 26, 30),
    "gray": (130, 133, 138),
}
SHAPES = ("disc", "square", "triangle", "star", "ring", "cross", "diamond", "heart")

_SUPERSAMPLE = 4
_SHIFT_BITS = 4
#: A ring's hole as a share of its radius.
RING_HOLE = 0.52


@lru_cache(maxsize=64)
def colour_lab(name: str) -> tuple[float, float, float]:
    """CIE Lab (L 0..100) of a colour of `COLOURS`. Raises: KeyError for a name that is not there."""
    return rgb_lab(COLOURS[name])


def rgb_lab(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    """CIE Lab (L 0..100) of an sRGB colour in 0..255."""
    pixel = np.array([[rgb]], dtype=np.float32) / np.float32(255)
    lightness, a, b = cv2.cvtColor(pixel, cv2.COLOR_RGB2Lab)[0, 0].tolist()
    return lightness, a, b


def colour_distance(lab_1: tuple[float, float, float], lab_2: tuple[float, float, float]) -> float:
    """How far two colours lie apart: Euclidean distance in CIE Lab (about 2 is just seen, 100 is black to white)."""
    return math.dist(lab_1, lab_2)


@lru_cache(maxsize=len(SHAPES))
def shape_outline(shape: str) -> NDArray[np.float64]:
    """The outline of a shape of `SHAPES`: points (N, 2) as x, y, inside the circle of radius 1, y pointing down.

    Raises: KeyError for a name that is not there.
    """
    outlines: dict[str, Any] = {
        "disc": lambda: _circle(0.94),
        "ring": lambda: _circle(1.0),
        "square": lambda: _regular(4, 45.0, 1.0),
        "diamond": lambda: _regular(4, 0.0, 1.0) * (0.74, 1.0),
        "triangle": lambda: _regular(3, -90.0, 1.0),
        "star": lambda: _star(5, 0.45),
        "cross": lambda: _cross(0.33, 0.92),
        "heart": _heart,
    }
    points: NDArray[np.float64] = outlines[shape]()
    return points


def _circle(radius: float) -> NDArray[np.float64]:
    return _regular(64, 0.0, radius)


def _regular(corners: int, first_deg: float, radius: float) -> NDArray[np.float64]:
    angles = np.radians(first_deg) + np.arange(corners) * (2 * np.pi / corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(points: int, inner: float) -> NDArray[np.float64]:
    outline = _regular(2 * points, -90.0, 1.0)
    outline[1::2] *= inner
    return outline


def _cross(half_arm: float, reach: float) -> NDArray[np.float64]:
    a, r = half_arm, reach
    corner = [(-a, -r), (a, -r), (a, -a), (r, -a), (r, a), (a, a)]
    corner += [(-x, -y) for x, y in corner]
    return np.array(corner, dtype=np.float64)


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.3], axis=1) / 18.07


def shape_coverage(
    shape: str, centre_px: tuple[float, float], radius_px: float, angle_rad: float, window: tuple[int, int, int, int]
) -> ImageF32:
    """How much of each pixel of `window` the shape covers: (H, W) float32 in [0, 1].

    centre_px: x, y in the image; window: [x1, y1, x2, y2] in the image, half-open; angle clockwise.
    """
    x1, y1, x2, y2 = window
    canvas = np.zeros(((y2 - y1) * _SUPERSAMPLE, (x2 - x1) * _SUPERSAMPLE), dtype=np.uint8)
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    turned = shape_outline(shape) @ np.array([[cos, sin], [-sin, cos]])
    origin = np.array([centre_px[0] - x1, centre_px[1] - y1])
    _fill(canvas, origin + radius_px * turned, 255)
    if shape == "ring":
        _fill(canvas, origin + radius_px * RING_HOLE * turned, 0)
    small = cv2.resize(canvas, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _fill(canvas: NDArray[np.uint8], points_px: NDArray[np.float64], value: int) -> None:
    """Fills a polygon given in pixels of the small image, whose pixel centres lie at .5."""
    scaled = (points_px * _SUPERSAMPLE - 0.5) * (1 << _SHIFT_BITS)
    cv2.fillPoly(canvas, [np.round(scaled).astype(np.int32)], value, lineType=cv2.LINE_8, shift=_SHIFT_BITS)
