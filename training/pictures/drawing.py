"""What sheets of samples and pictures of scored pairs share: inks, colour scales, outlines, a canvas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from PIL import Image, ImageDraw

from runtime.images import ImageU8
from runtime.masks import MaskBool

Colour = tuple[int, int, int]
Xy = tuple[float, float]
#: x1, y1, x2, y2 in px.
Box = tuple[float, float, float, float]

INK, SOFT, RULE, PAPER = (27, 29, 33), (96, 102, 112), (214, 215, 210), (255, 255, 255)


@dataclass(frozen=True)
class Canvas:
    """A picture while it is drawn."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    @classmethod
    def blank(cls, width: int, height: int) -> Self:
        """White paper of this size in px."""
        image = Image.new("RGB", (width, height), PAPER)
        return cls(image, ImageDraw.Draw(image))


def colour_on_scale(scale: Sequence[Colour], share: float) -> Colour:
    """The colour at `share` (0..1) of a scale, between its two nearest colours."""
    place = share * (len(scale) - 1)
    low = min(int(place), len(scale) - 2)
    rest = place - low
    r, g, b = (round(a + rest * (z - a)) for a, z in zip(scale[low], scale[low + 1], strict=True))
    return r, g, b


def ink_on(colour: Colour, light_from: int) -> Colour:
    """Dark or white, whichever is read better on `colour`; light_from: luminance (0..255) above which it is dark."""
    return INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > light_from else PAPER


def draw_outline(image: ImageU8, mask: MaskBool, strokes: Sequence[tuple[int, Colour]]) -> None:
    """Draws the border of a mask into `image`, stroke over stroke. strokes: (width in px, colour)."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for thickness, ink in strokes:
        cv2.drawContours(image, found, -1, ink, thickness, cv2.LINE_AA)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a point that is on the border of neither."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
