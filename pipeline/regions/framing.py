"""An edited image in the frame of its source: what everything downstream sees, and what of the source it does not show.

Where the map between both is the identity, the image stays as it came. What it shows nothing of is filled with the
source in the colours of the rest, which is evidence of nothing for whoever looks at the pixels, and is told as unseen.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np

from pipeline.regions.alignment import Map, align_near, at_size_of, displacement_px, expected_maps, layout, matrix
from pipeline.regions.registration import fit_colours
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.alignment import Alignment

#: Maps that move no corner by more are the identity: what is compared tolerates them, and undoing them would blur.
IDENTITY_PX = 0.2
#: With less agreement both are different pictures: pairs of unlike ones stay below .1, true ones above .15.
MIN_AGREEMENT = 0.12
#: So far from where a map leads out of the edited image its pixels are of its edge: rung, mixed with a border.
EDGE_PX = 3.0


@dataclass(frozen=True)
class Framed:
    """image: HWC uint8 RGB in the source's frame. misplaced_share: how far its farthest corner lay off, over the
    longest side. layout: how alike both are laid out (`alignment.layout`). unseen: mask (H, W) of what it does not show
    of the source, None where it shows all.
    """

    image: ImageU8
    alignment: Alignment
    misplaced_share: float
    layout: float
    unseen: MaskBool | None = None


def frame(source: ImageU8, edited: ImageU8, free: MaskBool | None = None) -> Framed:
    """`edited` (HWC uint8 RGB, any size) in the frame of `source`; as it came where nothing agrees.

    free: mask (H, W) of what may change in the source.
    """
    shape = (source.shape[0], source.shape[1])
    sized, expected = at_size_of(source, edited), list(expected_maps(shape, (edited.shape[0], edited.shape[1])))
    alignment = align_near(expected, source, sized, free)
    misplaced = min(displacement_px(alignment, shape, one) for one in expected) / max(shape)
    found = Framed(sized, alignment, misplaced, layout(source, sized, free))
    unlike = alignment.agreement is None or alignment.agreement < MIN_AGREEMENT
    if unlike or displacement_px(alignment, shape) <= IDENTITY_PX:
        return found
    image, unseen = _brought_back(source, sized, alignment)
    return replace(found, image=image, unseen=unseen if unseen.any() else None)


def _brought_back(source: ImageU8, sized: ImageU8, alignment: Alignment) -> tuple[ImageU8, MaskBool]:
    height, width = source.shape[:2]
    there = matrix(alignment, (height, width))
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    image = cast(ImageU8, cv2.warpAffine(sized, there, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101))
    unseen = ~_inside(there, height, width, margin_px=EDGE_PX)
    if unseen.any():
        image[unseen] = source[unseen]
        colours = fit_colours(source.astype(np.float32), image.astype(np.float32), ~unseen)
        mapped = cv2.transform(source.astype(np.float32), colours)
        image[unseen] = np.clip(np.rint(mapped), 0, 255).astype(np.uint8)[unseen]
    return image, unseen


def _inside(there: Map, height: int, width: int, margin_px: float) -> MaskBool:
    """Mask (H, W) of the pixels of the source whose place lies within an image of its size, so far from a cut edge."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    across, down = (there[row, 0] * x + there[row, 1] * y + there[row, 2] for row in (0, 1))
    inside = (across >= -0.5) & (across <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    side = 2 * round(margin_px) + 1
    whole: Any = np.ones((side, side), dtype=np.uint8)
    far = cv2.erode(inside.astype(np.uint8), whole, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(far > 0)
