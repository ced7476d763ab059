"""Where an edited image shows what its source shows: an affine map, found on detail that agrees, and how much does.

Editing models answer shifted, zoomed, turned, cropped and at other sizes. The map is found by Gauss-Newton steps on
what is finer than a few pixels (Baker and Matthews, "Lucas-Kanade 20 years on", inverse compositional), from copies of
16 px to copies of 256 px and more, with Geman-McClure weights, so that neither drift nor edits pull it. How many cells
with texture agree says whether it is to be believed: unlike images agree in hardly any.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.regions.registration import Float32, blurred
from runtime.images import ImageU8, resize_image
from runtime.masks import MaskBool
from schemas.alignment import Alignment

#: (2, 3), from (x, y) of the source to (x, y) of the edited image; the middle of the first pixel is (0, 0).
Map = NDArray[np.float64]

#: What is finer than this is detail, at each size of the copies.
DETAIL_SIGMA_PX = 2.0
#: The contrast that detail is evened to, over which scale, and the contrast that is faint.
EVEN_LEVELS, EVEN_SIGMA_PX, FAINT_LEVELS = 20.0, 2.5, 3.0
#: Longest sides of the copies, and the most steps on each; the last is for images of 768 px and more.
LEVELS = ((16, 8), (32, 8), (64, 6), (128, 5), (256, 5))
LARGE_PX, LAST_LEVEL = 768, (512, 2)
#: The smallest of them on which more than shift, zoom and turn can be told.
AFFINE_FROM_PX = 64
#: Residuals (levels) at which a pixel counts a quarter, one step after the other.
STEP_SCALES_LEVELS = (40.0, 30.0, 20.0, 15.0, 10.0, 8.0)
#: A step that moves no point by more is the last.
LAST_STEP_PX = 0.02
#: Zooms and turns beyond these are none that editing models make unasked.
SCALES = (0.7, 1.4)
MAX_DEGREES = 12.0
MAX_SHEAR = 0.1
#: Cells in which agreement is counted, on a copy of this longest side.
AGREEMENT_SIDE_PX = 256
CELL_PX = 16
#: Mean square of detail from which a cell has texture, and the correlation from which it agrees.
TEXTURE_LEVELS_2 = 4.0
AGREEING_CORRELATION = 0.6
LAYOUT_CELLS = (16, 16)
#: With fewer cells that have texture there is nothing to tell by.
MIN_CELLS = 6
#: What is gained in agreement, or lost in residual (a share of it), by a map that is not the plainest; and what has to
#: be gained where little agrees.
CLEARLY, LESS, MUCH = 0.03, 0.15, 0.1
#: With less agreement zooms are tried as starts, too.
SURE_AGREEMENT, OTHER_STARTS = 0.5, (0.88, 0.94, 1.06, 1.12)
#: A source of which less is there is another image.
MIN_SEEN_SHARE = 0.5
#: Aspects that differ by more are those of a crop or a border; by less, of sizes that were rounded.
ROUNDED_ASPECT = 0.03


@dataclass(frozen=True)
class _Level:
    """Source and edited image, small. before, after: their detail (H, W); factor: how many times as large as wholes.

    even_before, even_after: the same with its contrast evened out, so that strong edges do not outweigh faint texture.
    """

    before: Float32
    after: Float32
    even_before: Float32
    even_after: Float32
    factor: float


@dataclass(frozen=True)
class _Fit:
    """How well a map fits: see `schemas.alignment.Alignment`."""

    agreement: float | None
    residual_levels: float | None

    def better_than(self, plainer: "_Fit") -> bool:
        """Whether more agrees than on a plainer map, or as much and clearly better."""
        if self.agreement is None or self.residual_levels is None:
            return False
        if plainer.agreement is None or plainer.residual_levels is None:
            return True
        gained = self.agreement - plainer.agreement
        if self.agreement < SURE_AGREEMENT:  # noise and gross defects have a map of anything
            return gained > MUCH
        return gained > CLEARLY or (gained >= -CLEARLY and self.residual_levels < (1 - LESS) * plainer.residual_levels)


@dataclass
class _Copies:
    """Small copies of a source's and an edited image's lightness, each made once."""

    source: Float32
    edited: Float32
    made: dict[int, _Level] = field(default_factory=dict)

    def level(self, side_px: int) -> _Level:
        """The pair with its longest side at most `side_px`."""
        factor = min(1.0, side_px / max(self.source.shape))
        if side_px not in self.made:
            height, width = (max(1, round(side * factor)) for side in self.source.shape)
            small = [
                cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) if factor < 1 else one
                for one in (self.source, self.edited)
            ]
            before, after = (cast(Float32, one - blurred(cast(Float32, one), DETAIL_SIGMA_PX)) for one in small)
            self.made[side_px] = _Level(before, after, _even(before), _even(after), factor)
        return self.made[side_px]


def align(source: ImageU8, edited: ImageU8, free: MaskBool | None = None) -> Alignment:
    """How `edited` (HWC uint8 RGB, any size) lies to `source`: by the map on which most agrees, the plainest of equals.

    Where both have another aspect, `edited` may be the source's middle, or the source with a border. free: mask (H, W)
    of what may change in the source; it need not agree.
    """
    starts = list(expected_maps((source.shape[0], source.shape[1]), (edited.shape[0], edited.shape[1])))
    return align_near(starts, source, at_size_of(source, edited), free)


def align_near(starts: list[Map], source: ImageU8, sized: ImageU8, free: MaskBool | None = None) -> Alignment:
    """As `align`, of an edited image at the source's size, near the maps that are expected of it."""
    shape = (source.shape[0], source.shape[1])
    copies = _Copies(_lightness(source), _lightness(sized))
    best = _best(copies, free, starts, starts)
    if best[1].agreement is not None and best[1].agreement < SURE_AGREEMENT:
        best = _best(copies, free, [best[0]], [_about_middle(np.eye(2) * zoom, shape) for zoom in OTHER_STARTS])
    return _alignment(best[0], shape, best[1])


def _best(copies: _Copies, free: MaskBool | None, plain: list[Map], starts: list[Map]) -> tuple[Map, _Fit]:
    """The best of plain maps and of those near `starts`, the plainest of equals."""
    maps = plain + [found for start in starts if (found := _found(copies, start)) is not None]
    fits = [_fit(copies, one, free) for one in maps]
    best = 0
    for index in range(1, len(maps)):
        best = index if fits[index].better_than(fits[best]) else best
    return maps[best], fits[best]


def expected_maps(shape: tuple[int, int], edited_shape: tuple[int, int]) -> Iterator[Map]:
    """The maps that the sizes (H, W) of source and edited image speak for: the same picture, its middle, a border."""
    yield np.eye(2, 3)
    factor = (edited_shape[1] / edited_shape[0]) / (shape[1] / shape[0])
    if abs(np.log(factor)) > ROUNDED_ASPECT:
        for wide, high in ((1 / min(1.0, factor), max(1.0, factor)), (min(1.0, 1 / factor), 1 / max(1.0, 1 / factor))):
            yield _about_middle(np.diag([wide, high]), shape)


def _about_middle(linear: Map, shape: tuple[int, int]) -> Map:
    """The map that leaves the middle of a shape (H, W) where it is."""
    return np.column_stack([linear, _middle(shape) - linear @ _middle(shape)])


def layout(source: ImageU8, edited: ImageU8, free: MaskBool | None = None) -> float:
    """Correlation (-1..1) of lightness in 16 x 16 cells of two images of one shape, but for what may change (`free`).

    Other pictures stay below .7, as the same one under any noise, compression or bend does not. 1 where all is free.
    """
    cells = [cv2.resize(_lightness(image), LAYOUT_CELLS, interpolation=cv2.INTER_AREA) for image in (source, edited)]
    still = np.zeros(source.shape[:2], dtype=np.bool_) if free is None else free
    fixed = cv2.resize(still.astype(np.float32), LAYOUT_CELLS, interpolation=cv2.INTER_AREA) < 0.5
    if fixed.sum() < MIN_CELLS:
        return 1.0
    before, after = (one[fixed].astype(np.float64) - one[fixed].mean() for one in cells)
    return float(before @ after / np.sqrt((before @ before) * (after @ after) + 1e-9))


def matrix(alignment: Alignment, shape: tuple[int, int]) -> Map:
    """The map of an alignment to a source of this shape (H, W), towards the edited image at the source's size."""
    turn, scale = np.deg2rad(alignment.degrees), alignment.scale
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wide, high = scale * np.sqrt(alignment.aspect), scale / np.sqrt(alignment.aspect)
    there = _about_middle(rotation @ np.array([[wide, high * alignment.shear], [0, high]]), shape)
    there[:, 2] += (alignment.dx_px, alignment.dy_px)
    return there


def displacement_px(alignment: Alignment, shape: tuple[int, int], expected: Map | None = None) -> float:
    """How far the corner of a source of this shape (H, W) that lies farthest off lies from where it was expected."""
    height, width = shape
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], dtype=np.float64)
    there, wanted = (
        corners @ one[:, :2].T + one[:, 2]
        for one in (matrix(alignment, shape), np.eye(2, 3) if expected is None else expected)
    )
    return float(np.linalg.norm(there - wanted, axis=1).max())


def _alignment(found: Map, shape: tuple[int, int], fit: _Fit) -> Alignment:
    """The numbers of a map: turn, then size, aspect and shear (a QR decomposition)."""
    linear, middle = found[:, :2], _middle(shape)
    turn = np.arctan2(linear[1, 0], linear[0, 0])
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    upright = rotation @ linear
    wide, high = upright[0, 0], upright[1, 1]
    dx, dy = linear @ middle + found[:, 2] - middle
    figures = {
        "dx_px": dx,
        "dy_px": dy,
        "scale": np.sqrt(wide * high),
        "degrees": np.rad2deg(turn),
        "aspect": wide / high,
        "shear": upright[0, 1] / high,
    }
    rounded = {name: round(float(value), 6) + 0.0 for name, value in figures.items()}
    return Alignment(**rounded, agreement=fit.agreement, residual_levels=fit.residual_levels)


def _middle(shape: tuple[int, int]) -> NDArray[np.float64]:
    return np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])


def _lightness(image: ImageU8) -> Float32:
    return cast(Float32, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32))


def at_size_of(source: ImageU8, edited: ImageU8) -> ImageU8:
    """`edited` at the source's size, its aspect with it."""
    return edited if edited.shape == source.shape else resize_image(edited, source.shape[1], source.shape[0])


def _found(copies: _Copies, start: Map) -> Map | None:
    """The map near `start`, from the smallest copies to the largest; None where it runs away."""
    found, longest = start, max(copies.source.shape)
    levels = [level for level in LEVELS if level[0] <= longest] + ([LAST_LEVEL] if longest >= LARGE_PX else [])
    for side_px, steps in levels:
        level = copies.level(side_px)
        small = _stepped(level, _scaled(found, level.factor), steps, affine=side_px >= AFFINE_FROM_PX)
        if small is None or not _plausible(small[:, :2] @ np.linalg.inv(start[:, :2])):
            return None
        found = _scaled(small, 1 / level.factor)
    return found


def _plausible(linear: Map) -> bool:
    """Whether a map (its linear part) is one that an editing model may make unasked."""
    if not (np.isfinite(linear).all() and np.linalg.det(linear) > SCALES[0] ** 2 / 4):
        return False
    one = _alignment(np.column_stack([linear, [0, 0]]), (1, 1), _Fit(None, None))
    leaning = max(abs(one.shear), abs(float(np.log(one.aspect))))
    return SCALES[0] <= one.scale <= SCALES[1] and abs(one.degrees) <= MAX_DEGREES and leaning <= MAX_SHEAR


def _scaled(found: Map, factor: float) -> Map:
    """The map between copies `factor` times as large."""
    linear, corner = found[:, :2], np.array([0.5, 0.5])  # a pixel's middle lies half a pixel from its corner
    offset = (found[:, 2] + corner - linear @ corner) * factor
    return np.column_stack([linear, offset - corner + linear @ corner])


def _stepped(level: _Level, found: Map, steps: int, *, affine: bool) -> Map | None:
    """`found`, bettered on one pair of copies; None where the detail says nothing of it."""
    height, width = level.before.shape
    gradients, free = _gradients(level.even_before), _AFFINE if affine else _SIMILARITY
    homogeneous = np.vstack([found, [0, 0, 1]])
    for number in range(steps):
        residual = _seen_through(level.even_after, homogeneous[:2], (height, width), 1e4) - level.even_before
        scale = np.float32(STEP_SCALES_LEVELS[min(number, len(STEP_SCALES_LEVELS) - 1)])
        weighted = gradients * _weights(residual, scale).ravel()
        normal, right = (weighted @ gradients.T).astype(np.float64), (weighted @ residual.ravel()).astype(np.float64)
        normal, right = free.T @ normal @ free, free.T @ right
        if not (trace := float(np.trace(normal))) > 0:
            return None
        step = free @ np.linalg.solve(normal + 1e-5 * trace / len(normal) * np.eye(len(normal)), right)
        linear = step[[0, 1, 3, 4]].reshape(2, 2) / width
        move = np.eye(3)
        move[:2, :2] += linear
        move[:2, 2] = step[[2, 5]] - linear @ (width / 2, height / 2)
        homogeneous = homogeneous @ np.linalg.inv(move)
        if np.abs(linear).max() * width / 2 + np.abs(step[[2, 5]]).max() < LAST_STEP_PX:
            break
    return homogeneous[:2]


#: What may change of (xx, xy, x, yx, yy, y): all, or what a shift, a zoom and a turn change.
_AFFINE = np.eye(6)
_SIMILARITY = np.array(
    [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float
)


def _even(detail: Float32) -> Float32:
    """Detail (H, W) whose contrast in each place is about `EVEN_LEVELS`, and less where there is little."""
    contrast = np.sqrt(blurred(detail * detail, EVEN_SIGMA_PX))
    return cast(Float32, detail * (EVEN_LEVELS / (contrast + np.float32(FAINT_LEVELS))))


def _gradients(before: Float32) -> Float32:
    """(6, H x W): how each pixel changes with what `_AFFINE` frees; places as shares of the width, about the middle."""
    height, width = before.shape
    x = (np.arange(width, dtype=np.float32) - width / 2) / width
    y = ((np.arange(height, dtype=np.float32) - height / 2) / width)[:, None]
    along_x, along_y = (cv2.Sobel(before, cv2.CV_32F, *order, ksize=3, scale=0.125) for order in ((1, 0), (0, 1)))
    rows = [along_x * x, along_x * y, along_x, along_y * x, along_y * y, along_y]
    return np.stack(rows).astype(np.float32).reshape(6, -1)


def _weights(residual: Float32, scale: np.float32) -> Float32:
    """Geman-McClure's; what is far beyond the scale, and what is not seen, counts nothing."""
    weight = 1 / np.square(1 + np.square(residual / scale))
    weight[np.abs(residual) > 4 * scale] = 0
    return cast(Float32, weight)


def _seen_through(image: Any, found: Map, shape: tuple[int, int], outside: float) -> Float32:
    """(H, W): what lies in `image` where the map leads."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (shape[1], shape[0])
    return cast(
        Float32,
        cv2.warpAffine(image, found, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=outside),
    )


def _fit(copies: _Copies, found: Map, free: MaskBool | None) -> _Fit:
    """How well a map fits, in the cells with texture that have to agree."""
    level = copies.level(AGREEMENT_SIDE_PX)
    height, width = level.before.shape
    small = _scaled(found, level.factor)
    there = _seen_through(level.after, small, (height, width), 0)
    seen = _cells(_seen_through(np.ones_like(level.after), small, (height, width), 0)) > 0.8
    if seen.mean() < MIN_SEEN_SHARE:
        return _Fit(0.0, None)
    before, after, both = _cells(level.before**2), _cells(there**2), _cells(level.before * there)
    textured = seen & ((before > TEXTURE_LEVELS_2) | (after > TEXTURE_LEVELS_2))
    if free is not None:
        textured &= cv2.resize(free.astype(np.float32), before.shape[::-1], interpolation=cv2.INTER_AREA) < 0.5
    if textured.sum() < MIN_CELLS:
        return _Fit(None, None)
    agreeing = textured & (both / np.sqrt(before * after + 1) > AGREEING_CORRELATION)
    difference = _cells(np.abs(level.before - there))[agreeing]
    residual = round(float(np.median(difference)), 4) if agreeing.any() else None
    return _Fit(round(float(agreeing.sum() / textured.sum()), 4), residual)


def _cells(values: Float32) -> Float32:
    height, width = (max(1, round(side / CELL_PX)) for side in values.shape)
    return cast(Float32, cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA))
