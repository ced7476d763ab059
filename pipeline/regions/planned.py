"""The regions of a request before anything was edited: one a target, with its box in the frame of an image.

Frames: a target's box and destination are in pixels of sources[0]; a planned region's box in pixels of the image that
was asked for.
"""

import numpy as np

from runtime.images import box_mask, scale_box
from runtime.masks import MaskBool, mask_box, rle_to_mask
from schemas.geometry import Box
from schemas.region import PlannedRegion, region_id
from schemas.request import EditRequest, Target


def plan_regions(request: EditRequest, width_px: int, height_px: int) -> tuple[PlannedRegion, ...]:
    """One planned region per target, in the frame of an image of this size.

    Box: the union of old and new place for a target with a destination; the whole image for a target without a box
    ("global edit"). Boxes are scaled where sources[0] has another size.
    """
    size = (width_px, height_px)
    return tuple(
        PlannedRegion(
            id=region_id(request.id, index),
            target=index,
            label=target.label,
            role=target.role,
            box=_union(target_boxes(request, target, size)) or (0, 0, width_px, height_px),
        )
        for index, target in enumerate(request.targets)
    )


def planned_mask(planned: tuple[PlannedRegion, ...], shape: tuple[int, int], margin_px: int = 0) -> MaskBool:
    """Mask (H, W) of the planned boxes, each grown by `margin_px`."""
    mask = np.zeros(shape, dtype=np.bool_)
    for region in planned:
        mask |= box_mask(grown_box(region.box, margin_px), *shape)
    return mask


def target_boxes(request: EditRequest, target: Target, size: tuple[int, int]) -> list[Box]:
    """The target's old and new place in an image of `size` (width, height); empty for a global edit."""
    source = (request.sources[0].width_px, request.sources[0].height_px)
    box = target.box
    if box is None and target.mask is not None:
        box = mask_box(rle_to_mask(target.mask))
    if box is None:
        return []
    return [scale_box(place, source, size) for place in (box, target.destination) if place is not None]


def grown_box(box: Box, margin_px: int) -> Box:
    """`box` with a margin on every side; to the right and below it may reach beyond the image."""
    return max(0, box[0] - margin_px), max(0, box[1] - margin_px), box[2] + margin_px, box[3] + margin_px


def _union(boxes: list[Box]) -> Box | None:
    if not boxes:
        return None
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)
