"""Sources, targets and brought candidates in the frame of a build: scaled down to its size."""

from collections.abc import Sequence
from typing import Any

from pipeline.requests.lines import BadRequest
from runtime.images import ImageU8, fit_size_px, resize_image, resize_mask, scale_box
from runtime.masks import mask_to_rle, rle_to_mask
from schemas.geometry import Box, CocoRle, box_in_image
from schemas.request import Target

#: (height, width) in pixels.
Size = tuple[int, int]


def scale_image(image: ImageU8, size_px: int) -> ImageU8:
    """The image with its longest side at most `size_px`."""
    return resize_image(image, *fit_size_px(image.shape[1], image.shape[0], size_px))


def scale_to_cover(image: ImageU8, width_px: int, height_px: int) -> ImageU8:
    """A candidate, its aspect kept, made as small as covers its source; smaller ones stay as they are."""
    factor = max(width_px / image.shape[1], height_px / image.shape[0])
    if factor >= 1:
        return image
    return resize_image(image, max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))


def scale_targets(targets: tuple[Target, ...], originals: Sequence[Size], scaled: Sequence[Size]) -> tuple[Target, ...]:
    """The targets of a request in the frame of its scaled sources. originals, scaled: (H, W) of the sources.

    Raises: BadRequest for a box or mask that does not fit its image.
    """
    return tuple(_scale_target(f"targets.{index}", target, originals, scaled) for index, target in enumerate(targets))


def _scale_target(place: str, target: Target, originals: Sequence[Size], scaled: Sequence[Size]) -> Target:
    changes: dict[str, Any] = {}
    for name in ("box", "destination"):
        if box := getattr(target, name):
            changes[name] = _scale_box(f"{place}.{name}", box, originals[0], scaled[0])
    if target.reference and target.reference.box:
        source, box = target.reference.source, target.reference.box
        box = _scale_box(f"{place}.reference.box", box, originals[source], scaled[source])
        changes["reference"] = target.reference.model_copy(update={"box": box})
    if target.mask is not None:
        changes["mask"] = _scale_mask(f"{place}.mask", target.mask, originals[0], scaled[0])
    return target.model_copy(update=changes)


def _scale_box(place: str, box: Box, original: Size, scaled: Size) -> Box:
    (height, width), (new_height, new_width) = original, scaled
    if not box_in_image(box, width, height):
        raise BadRequest("box_outside_image", f"{place} {list(box)} leaves {width} x {height} px")
    return scale_box(box, (width, height), (new_width, new_height))


def _scale_mask(place: str, rle: CocoRle, original: Size, scaled: Size) -> CocoRle | None:
    """The mask at the new size; None where nothing of it is left."""
    if rle.size != original:
        raise BadRequest("bad_mask", f"{place} has size {list(rle.size)}, its image {list(original)}")
    try:
        mask = rle_to_mask(rle)
    except ValueError as error:
        raise BadRequest("bad_mask", f"{place}: {error}") from None
    if not mask.any():
        raise BadRequest("bad_mask", f"{place} is empty")
    resized = resize_mask(mask, scaled[1], scaled[0])
    return mask_to_rle(resized) if resized.any() else None
