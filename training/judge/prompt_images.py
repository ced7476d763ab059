"""The images of a judge's prompt: source and edited image, both with outlined regions, and close-ups of every region.

Judges tend to look at one image and neglect the other; so each region also stands once as a pair of its own, source on
the left and edited on the right, same place and same scale. An outline lies outside its mask and hides none of it.
"""

from collections.abc import Mapping
from math import ceil, sqrt

import cv2
import numpy as np

from runtime.images import ImageU8, fit_size_px, resize_image, resize_mask
from runtime.masks import MaskBool, mask_box
from schemas.geometry import Box

#: Outlines in turn, RGB: far from each other and from grey.
COLOURS = ((255, 40, 40), (0, 200, 80), (60, 120, 255), (255, 200, 0), (230, 60, 230), (0, 210, 220), (255, 130, 0))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEADER_PX = 36
_GAP_PX = 12
_CLOSE_UP_MARGIN = 0.25
_CLOSE_UP_LEAST_PX = 24


def shown_size_px(width_px: int, height_px: int, upscale_to_px: int, longest_side_px: int) -> tuple[int, int]:
    """(width, height) at which an image is shown: its longest side brought between the two limits."""
    longest = max(width_px, height_px)
    wanted = min(max(longest, upscale_to_px), longest_side_px)
    if wanted <= longest:
        return fit_size_px(width_px, height_px, wanted)
    return max(1, round(width_px * wanted / longest)), max(1, round(height_px * wanted / longest))


def side_by_side(source: ImageU8, edited: ImageU8, masks: Mapping[str, MaskBool]) -> ImageU8:
    """Source (left) and edited (right), each with the outlines and labels of `masks` (label -> (H, W)), under a header.

    Shapes: both (H, W, 3) uint8, as the masks; out (H + header, 2 W + gap, 3).
    """
    left, right = outlined(source, masks), outlined(edited, masks)
    height, width = left.shape[:2]
    sheet = np.full((height + _HEADER_PX, 2 * width + _GAP_PX, 3), 255, dtype=np.uint8)
    sheet[_HEADER_PX:, :width], sheet[_HEADER_PX:, width + _GAP_PX :] = left, right
    _write(sheet, "SOURCE", (4, _HEADER_PX - 10), (0, 0, 0))
    _write(sheet, "EDITED", (width + _GAP_PX + 4, _HEADER_PX - 10), (0, 0, 0))
    return sheet


def outlined(image: ImageU8, masks: Mapping[str, MaskBool]) -> ImageU8:
    """A copy of `image` with each mask outlined (just outside of it, black-edged) and labelled beside it."""
    picture = image.copy()
    line_px = max(2, round(max(image.shape[:2]) / 320))
    for index, mask in enumerate(masks.values()):
        _outline(picture, mask, COLOURS[index % len(COLOURS)], line_px)
    taken = np.any(list(masks.values()), axis=0) if masks else np.zeros(image.shape[:2], dtype=np.bool_)
    for index, (label, mask) in enumerate(masks.items()):
        box = mask_box(mask)
        if box is not None:
            _label(picture, taken, label, box, COLOURS[index % len(COLOURS)], line_px)
    return picture


def _outline(picture: ImageU8, mask: MaskBool, colour: tuple[int, int, int], line_px: int) -> None:
    inner = _grown(mask, 1)
    line, edge = _grown(mask, 1 + line_px), _grown(mask, 2 + line_px)
    if not (line & ~inner).any():  # the mask fills the image: its outline runs along the border
        shrunk = np.zeros_like(mask)
        shrunk[2 + line_px : -2 - line_px, 2 + line_px : -2 - line_px] = True
        inner, line, edge = shrunk, _grown(shrunk, line_px), np.ones_like(mask)
    picture[edge & ~line] = 0
    picture[line & ~inner] = colour


def _grown(mask: MaskBool, by_px: int) -> MaskBool:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), dtype=np.bool_)


def _label(picture: ImageU8, taken: MaskBool, label: str, box: Box, colour: tuple[int, int, int], line_px: int) -> None:
    """Writes `label` on a badge near `box`, where it covers least of what is `taken`; the badge is then taken, too."""
    height, width = picture.shape[:2]
    (text_w, text_h), _ = cv2.getTextSize(label, _FONT, _scale(picture), 2)
    badge_w, badge_h, off = text_w + 8, text_h + 8, line_px + 3
    x1, y1, x2, y2 = box
    places = [
        (x1, y1 - badge_h - off),
        (x1, y2 + off),
        (x1 - badge_w - off, y1),
        (x2 + off, y1),
        (x2 - badge_w, y1 - badge_h - off),
        (x2 - badge_w, y2 + off),
        (x1, y1),
    ]
    inside = [(min(max(x, 0), max(width - badge_w, 0)), min(max(y, 0), max(height - badge_h, 0))) for x, y in places]
    x, y = min(inside, key=lambda at: int(taken[at[1] : at[1] + badge_h, at[0] : at[0] + badge_w].sum()))
    picture[y : y + badge_h, x : x + badge_w] = 0
    picture[y + 1 : y + badge_h - 1, x + 1 : x + badge_w - 1] = colour
    taken[y : y + badge_h, x : x + badge_w] = True
    _write(picture, label, (x + 4, y + badge_h - 5), (0, 0, 0))


def _write(picture: ImageU8, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, _FONT, _scale(picture), colour, 2, cv2.LINE_AA)


def _scale(picture: ImageU8) -> float:
    return min(0.8, max(0.4, max(picture.shape[:2]) / 1100))


def close_ups(source: ImageU8, edited: ImageU8, masks: Mapping[str, MaskBool]) -> ImageU8:
    """A sheet with one pair per mask (label -> (H, W), none empty): source left, edited right, same place and scale.

    Shapes: source, edited (H, W, 3) uint8 of one size. The crop is the mask's box with a margin; up to 8 regions have
    tiles of 320 px, more have 192.
    """
    tile = 320 if len(masks) <= 8 else 192
    cell_h, cell_w = tile + _HEADER_PX, 2 * tile + 4
    columns = max(1, round(sqrt(len(masks) * cell_h / cell_w)))
    rows = ceil(len(masks) / columns)
    sheet = np.full((rows * (cell_h + _GAP_PX), columns * (cell_w + _GAP_PX), 3), 255, dtype=np.uint8)
    for index, (label, mask) in enumerate(masks.items()):
        top, left = (index // columns) * (cell_h + _GAP_PX), (index % columns) * (cell_w + _GAP_PX)
        x1, y1, x2, y2 = _crop_box(mask)
        for column, image in enumerate((source, edited)):
            x = left + column * (tile + 4)
            sheet[top + _HEADER_PX : top + cell_h, x : x + tile] = _tile(image[y1:y2, x1:x2], tile)
        cv2.putText(sheet, f"{label}: source | edited", (left + 4, top + _HEADER_PX - 10), _FONT, 0.6, (0, 0, 0), 2)
    return sheet


def _crop_box(mask: MaskBool) -> Box:
    """The mask's box with its margin, inside the image. Raises: ValueError for an empty mask."""
    box = mask_box(mask)
    if box is None:
        raise ValueError("an empty mask has no close-up")
    height, width = mask.shape
    side = max(box[2] - box[0], box[3] - box[1], _CLOSE_UP_LEAST_PX)
    margin = ceil(_CLOSE_UP_MARGIN * side)
    return max(0, box[0] - margin), max(0, box[1] - margin), min(width, box[2] + margin), min(height, box[3] + margin)


def _tile(crop: ImageU8, tile_px: int) -> ImageU8:
    """`crop` as large as fits into a grey square of `tile_px`, centred."""
    height, width = crop.shape[:2]
    scale = tile_px / max(height, width)
    fitted = resize_image(crop, max(1, round(width * scale)), max(1, round(height * scale)))
    square = np.full((tile_px, tile_px, 3), 128, dtype=np.uint8)
    top, left = (tile_px - fitted.shape[0]) // 2, (tile_px - fitted.shape[1]) // 2
    square[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return square


def at_size(mask: MaskBool, width_px: int, height_px: int) -> MaskBool:
    """`mask` at the shown size; one that scaling down would lose keeps a pixel at its centre."""
    shown = resize_mask(mask, width_px, height_px)
    box = mask_box(mask)
    if box is not None and not shown.any():
        height, width = mask.shape
        y, x = (box[1] + box[3]) / 2 / height, (box[0] + box[2]) / 2 / width
        shown[min(int(y * height_px), height_px - 1), min(int(x * width_px), width_px - 1)] = True
    return shown
