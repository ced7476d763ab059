"""Marks of regions on a picture: a colour each, an outline, and a numbered badge that hides no other."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import cv2
import numpy as np

from runtime.images import ImageU8
from runtime.masks import MaskBool, mask_box
from training.pictures.drawing import INK, Box, Colour, draw_outline, overlap

REGION_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 179, 134), (240, 228, 66), (255, 122, 61), (221, 143, 189), (111, 141, 255),
)  # fmt: skip


def region_colour(number: int) -> Colour:
    """The colour of region `number`, from 0."""
    return REGION_COLOURS[number % len(REGION_COLOURS)]


def outline_region(image: ImageU8, mask: MaskBool, colour: Colour) -> None:
    """Draws the border of a mask into `image`: a coloured line in a dark casing."""
    draw_outline(image, mask, ((4, INK), (2, colour)))


def badge_half(words: str) -> tuple[int, int]:
    """Half the width and half the height of a badge, in px."""
    return 5 + 4 * len(words), 8


def badge_places(masks: Sequence[MaskBool], tile: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the number of each region stands: deep inside it, or as near as there is room beside the others."""
    taken: list[Box] = []
    places = []
    for number, mask in enumerate(masks):
        half_width, half_height = badge_half(str(number + 1))
        x, y = _free_place(_wanted_place(mask, half_width, half_height), (half_width, half_height), taken, tile)
        taken.append((x - half_width, y - half_height, x + half_width, y + half_height))
        places.append((x, y))
    return places


def _wanted_place(mask: MaskBool, half_width: int, half_height: int) -> tuple[int, int]:
    """The point (x, y) of a mask farthest from its border, or beside a mask that a number would hide."""
    box = mask_box(mask)
    if box is None:
        return 0, 0
    if box[2] - box[0] < 4 * half_width or box[3] - box[1] < 4 * half_height:
        return box[2] + half_width + 3, box[1] - 2
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def _free_place(
    wanted: tuple[int, int], half: tuple[int, int], taken: Sequence[Box], tile: tuple[int, int]
) -> tuple[int, int]:
    """The place nearest to `wanted`, inside the tile, whose box meets no box of `taken`; `wanted` where all is full."""

    def inside(x: int, y: int) -> tuple[int, int]:
        return min(max(x, half[0]), tile[0] - half[0] - 1), min(max(y, half[1]), tile[1] - half[1] - 1)

    for dx, dy in _offsets(ceil(max(tile) / 6)):
        x, y = inside(wanted[0] + dx, wanted[1] + dy)
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if not any(overlap(box, other) for other in taken):
            return x, y
    return inside(*wanted)


@lru_cache(maxsize=8)
def _offsets(steps: int) -> tuple[tuple[int, int], ...]:
    """Ways to go from a place, up to `steps` of 6 px in each direction, the shortest first; of every region."""
    reach = range(-steps, steps + 1)
    ways = ((dx * 6, dy * 6) for dx in reach for dy in reach)
    return tuple(sorted(ways, key=lambda way: (way[0] ** 2 + way[1] ** 2, way)))
