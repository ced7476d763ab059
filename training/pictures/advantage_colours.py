"""Advantages as colours: blue towards a sample, red away from it, hatched where one is missing."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.reward import BACKGROUND
from training.pictures.drawing import PAPER, Colour, colour_on_scale
from training.pictures.region_marks import outline_region

#: From pushed away to drawn towards; the ends differ in lightness from the middle and in hue for the colour-blind, too.
SCALE: tuple[Colour, ...] = ((165, 15, 38), (226, 108, 86), (246, 244, 240), (92, 155, 209), (20, 82, 158))
#: How much of the colour covers the grey picture.
COVER = 0.7
#: Ends of the colour scale that read well.
_LIMITS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)


def advantage_colour(advantage: float, limit: float) -> Colour:
    """The colour of an advantage on a scale from -limit to limit."""
    return colour_on_scale(SCALE, (min(max(advantage / limit, -1.0), 1.0) + 1) / 2)


def readable_limit(advantages: Iterable[float | None]) -> float:
    """The end of the colour scale: the least readable one that holds every advantage, 5 at most."""
    known = (abs(advantage) for advantage in advantages if advantage is not None and np.isfinite(advantage))
    largest = max(known, default=0.0)
    return next((limit for limit in _LIMITS if largest <= limit), _LIMITS[-1])


def painted(
    picture: ImageU8,
    keys: Sequence[str],
    masks: Sequence[MaskBool],
    advantages: Mapping[str, float | None],
    limit: float,
) -> ImageU8:
    """The picture in grey under the colours of its advantages; small regions lie over large ones.

    keys: of the regions, in the order of their masks.
    """
    colours = np.empty(picture.shape, dtype=np.float64)
    colours[:] = _fill(advantages.get(BACKGROUND), limit, picture.shape[:2])
    order = sorted(range(len(masks)), key=lambda number: -int(masks[number].sum()))
    for number in order:
        mask = masks[number]
        colours[mask] = _fill(advantages.get(keys[number]), limit, picture.shape[:2])[mask]
    grey = 80 + 0.65 * cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)[..., None]
    covered: ImageU8 = np.asarray(COVER * colours + (1 - COVER) * grey + 0.5, dtype=np.uint8)
    for mask in masks:
        outline_region(covered, mask, PAPER)
    return covered


def _fill(advantage: float | None, limit: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W, 3) of one colour; hatched grey for a missing advantage."""
    known = finite(advantage)
    if known is not None:
        return np.broadcast_to(np.array(advantage_colour(known, limit), dtype=np.float64), (*shape, 3))
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.where(((xs + ys) % 12 < 3)[..., None], 120.0, 205.0).repeat(3, axis=2)


def finite(value: float | None) -> float | None:
    """`value`, None where it is missing or no finite number."""
    return value if value is not None and np.isfinite(value) else None
