"""What the network is shown of a query: both images on a square canvas, maps of their difference, places, measures.

Everything here is fixed image processing, done once for each candidate; nothing learns. Measures are taken at full
resolution, so that noise, seams and blocks of a pixel's size are seen although the network's own maps are coarser.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.images import ImageU8, fit_size_px, resize_image
from runtime.masks import MaskBool
from schemas.errors import BadInput
from training.reward_protocol import RewardQuery

Floats = NDArray[np.float32]

#: Fixed measures of a pixel; see `detail_maps`.
DETAILS = 21
#: The places of a region: inside, its core, the rim within, the rim around, and the neighbourhood.
PLACES = 5
#: Reach of the rims and of the neighbourhood in pixels of the canvas.
RIM_PX, NEAR_PX = 3, 9
#: The maps that go into the network beside the images, on half the canvas; the last two: covered by a mask, inside.
MAPS = 8
#: The places are area-averaged to a grid this much coarser than the canvas.
GRID = 4
GEOMETRY = 6
#: How the keys of regions begin that nobody asked for.
UNPLANNED = "extra-"
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: Variance of lightness (of 1) that is no structure yet.
_FLAT = np.float32(1e-4)
_THIRDS = np.full(3, 1 / 3, dtype=np.float32)


@dataclass(frozen=True)
class Features:
    """One query as numbers. Rows: its regions in the order of their keys, then the background.

    source, edited: (S, S, 3) uint8, black outside the image; maps: (S/2, S/2, MAPS) float16; places: (rows, PLACES,
    S/4, S/4) float16, area shares; means, spreads: (rows, PLACES, DETAILS); geometry: (rows, GEOMETRY).
    """

    keys: tuple[str, ...]
    instruction: str
    source: ImageU8
    edited: ImageU8
    maps: NDArray[np.float16]
    places: NDArray[np.float16]
    means: Floats
    spreads: Floats
    geometry: Floats


def features_of(query: RewardQuery, side_px: int, *, use_source: bool = True) -> Features:
    """The features of a query on a canvas of `side_px`; without the source every trace of its pixels is 0.

    Raises: BadInput where source, edited image and masks differ in size, or a mask is not bool.
    """
    check_query(query)
    height, width = query.edited.shape[:2]
    size = fit_size_px(width, height, side_px)
    edited = _on_canvas(resize_image(query.edited, *size), side_px)
    source = _on_canvas(resize_image(query.source, *size), side_px) if use_source else np.zeros_like(edited)
    valid = np.zeros((side_px, side_px), dtype=np.bool_)
    valid[: size[1], : size[0]] = True
    rows = _rows(query.masks, size, valid)
    places = np.stack([places_of(row, valid) for row in rows])
    details = detail_maps(source, edited, valid)
    means, spreads = measured(details, places)
    covered = np.stack([~rows[-1], valid], axis=-1).astype(np.float32)
    return Features(
        keys=tuple(query.masks),
        instruction=query.instruction,
        source=source,
        edited=edited,
        maps=_halved(np.concatenate([details[..., [9, 10, 11, 14, 19, 20]], covered], axis=-1)).astype(np.float16),
        places=_shrunk(places).astype(np.float16),
        means=means,
        spreads=spreads,
        geometry=np.stack([geometry(row) for row in rows]),
    )


def check_query(query: RewardQuery) -> None:
    """Raises: BadInput where source, edited image and masks differ in size, or one is of another type."""
    shape = query.edited.shape
    if len(shape) != 3 or shape[2] != 3 or query.edited.dtype != np.uint8 or query.source.dtype != np.uint8:
        raise BadInput("edited image", f"is {shape} {query.edited.dtype}", "give HWC uint8 RGB")
    if query.source.shape != shape:
        raise BadInput("source image", f"is {query.source.shape}, the edited one {shape}", "give both in one size")
    for key, mask in query.masks.items():
        if mask.shape != shape[:2] or mask.dtype != np.bool_:
            fault = f"is {mask.shape} {mask.dtype}, the edited image {shape[:2]}"
            raise BadInput(f"mask of region {key}", fault, "give bool masks of the image's height and width")


def _on_canvas(image: ImageU8, side_px: int) -> ImageU8:
    canvas = np.zeros((side_px, side_px, 3), dtype=np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _rows(masks: Mapping[str, MaskBool], size: tuple[int, int], valid: MaskBool) -> list[MaskBool]:
    """The masks on the canvas, then the background: all of the image that no mask covers.

    What nobody planned (`extra-n`) is a row of its own, and belongs to the background all the same.
    """
    rows = [_mask_on_canvas(mask, size, valid.shape[0]) for mask in masks.values()]
    background = valid.copy()
    for key, row in zip(masks, rows, strict=True):
        if not key.startswith(UNPLANNED):
            background &= ~row
    return [*rows, background]


def _mask_on_canvas(mask: MaskBool, size: tuple[int, int], side_px: int) -> MaskBool:
    """A mask at the size of the image on the canvas: where at least half of a pixel, else any of it, is covered."""
    canvas = np.zeros((side_px, side_px), dtype=np.bool_)
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = share >= 0.5
    canvas[: size[1], : size[0]] = small if small.any() else share > 0
    return canvas


def places_of(mask: MaskBool, valid: MaskBool) -> MaskBool:
    """The places of a region, (PLACES, S, S): inside; further than `RIM_PX` from its border; within it inside; within
    it outside; beyond that up to `NEAR_PX`. Core and rim within make up the inside; the others are disjoint.
    """
    inside = mask.astype(np.uint8)
    rim, near = (np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8) for reach in (RIM_PX, NEAR_PX))
    grown, around, core = cv2.dilate(inside, rim) > 0, cv2.dilate(inside, near) > 0, cv2.erode(inside, rim) > 0
    return np.stack([mask, core, mask & ~core, grown & ~mask & valid, around & ~grown & valid])


def detail_maps(source: ImageU8, edited: ImageU8, valid: MaskBool) -> Floats:
    """What can be seen of an edit pixel by pixel: (S, S, DETAILS) float32.

    0-2 source, 3-5 edited, 6-8 |edited - source|, all in [0, 1]; then, four times their size in [0, 1]: 9, 10 fine
    detail of lightness in source and edited, 11 how far it differs; 12-14 the same of colour; 15-17 of lightness in a
    coarser band; 18 how far colour differs in it. 19: how much of the source's structure is lost, 0..1, whatever the
    colour and the light. 20: the signed change of lightness, four times its size.
    """
    one, two = (np.divide(image, 255, dtype=np.float32) for image in (source, edited))
    (fine_one, band_one), (fine_two, band_two) = _bands(one), _bands(two)
    gap = two - one
    measures: list[Floats] = [
        np.abs(fine_one @ _LUMINANCE),
        np.abs(fine_two @ _LUMINANCE),
        np.abs((fine_two - fine_one) @ _LUMINANCE),
        _tint(fine_one),
        _tint(fine_two),
        _tint(fine_two - fine_one),
        np.abs(band_one @ _LUMINANCE),
        np.abs(band_two @ _LUMINANCE),
        np.abs((band_two - band_one) @ _LUMINANCE),
        _tint(band_two - band_one),
        np.divide(structure_lost(one @ _LUMINANCE, two @ _LUMINANCE), 4, dtype=np.float32),
        gap @ _LUMINANCE,
    ]
    details = np.concatenate([one, two, np.abs(gap), 4 * np.stack(measures, axis=-1)], axis=-1)
    return np.asarray(details * valid[..., None], dtype=np.float32)


def structure_lost(one: Floats, two: Floats) -> Floats:
    """(1 - correlation) / 2 of two grey images (S, S) around each pixel: 0 the same shapes, 0.5 none in common."""

    def mean(image: Floats) -> Floats:
        return np.asarray(cv2.blur(image, (5, 5)), dtype=np.float32)

    mean_one, mean_two = mean(one), mean(two)
    shared = mean(one * two) - mean_one * mean_two
    own_one, own_two = (mean(x * x) - m * m for x, m in ((one, mean_one), (two, mean_two)))
    correlation = shared / (np.sqrt(np.maximum(own_one * own_two, 0)) + _FLAT)
    return np.asarray((1 - np.clip(correlation, -1, 1)) / 2, dtype=np.float32)


def _bands(image: Floats) -> tuple[Floats, Floats]:
    """Fine detail and the band below it."""
    near, far = cv2.blur(image, (3, 3)), cv2.blur(image, (7, 7))
    return np.asarray(image - near, dtype=np.float32), np.asarray(near - far, dtype=np.float32)


def _tint(image: Floats) -> Floats:
    """How far the channels are from their lightness."""
    return np.asarray(np.abs(image - (image @ _LUMINANCE)[..., None]) @ _THIRDS, dtype=np.float32)


def measured(details: Floats, places: MaskBool) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every detail in every place, (rows, PLACES, DETAILS) each; 0 in an empty one."""
    flat = places.reshape(-1, places.shape[-2] * places.shape[-1]).astype(np.float32)
    values = details.reshape(-1, details.shape[-1])
    mass = np.maximum(flat.sum(axis=1, keepdims=True), 1)
    mean, square = flat @ values / mass, flat @ np.square(values) / mass
    spread = np.sqrt(np.maximum(square - np.square(mean), 0))
    shape = (*places.shape[:2], -1)
    return np.asarray(mean, dtype=np.float32).reshape(shape), np.asarray(spread, dtype=np.float32).reshape(shape)


def geometry(mask: MaskBool) -> Floats:
    """Centre x and y in [-1, 1], extent x and y, square root of the area's share, log of the pixels: (GEOMETRY,)."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return np.zeros(GEOMETRY, dtype=np.float32)
    y, x = 2 * (ys + 0.5) / mask.shape[0] - 1, 2 * (xs + 0.5) / mask.shape[1] - 1
    shape = [x.mean(), y.mean(), 2 * x.std(), 2 * y.std(), np.sqrt(mask.mean()), np.log1p(len(ys)) / 10]
    return np.array(shape, dtype=np.float32)


def _halved(maps: Floats) -> Floats:
    side = maps.shape[0] // 2
    return np.asarray(maps.reshape(side, 2, side, 2, -1).mean(axis=(1, 3)), dtype=np.float32)


def _shrunk(places: MaskBool) -> Floats:
    """Area shares on the grid: (rows, PLACES, S / GRID, S / GRID)."""
    side = places.shape[-1] // GRID
    cells = places.reshape(*places.shape[:2], side, GRID, side, GRID)
    return np.asarray(cells.mean(axis=(3, 5), dtype=np.float32))
