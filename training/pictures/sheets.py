"""A sheet to look at: what was asked, what the policy made of it, and which place of which sample is pushed which way.

One block a request: the instruction; the source and some samples; below them the regions, outlined and numbered, and
each sample again in grey with the advantage of every region and of the background painted over it, blue where the
policy is drawn towards the sample and red where it is pushed away; below these the numbers. A missing advantage is
hatched. Everything is drawn with the font that comes with matplotlib, so that the same arguments give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from math import ceil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runtime.images import ImageU8, MaskBool, fit_size_px, mask_box, resize_image, resize_mask
from schemas.errors import MissingPackage
from schemas.reward import BACKGROUND

Colour = tuple[int, int, int]

#: Small images are enlarged by a whole number, so that their pixels stay crisp; larger ones are scaled down.
ENLARGED_PX, LARGEST_PX = 288, 384
LEAST_TILE_PX, NAME_PX = 236, 190
MARGIN, GAP, LINE_PX, TITLE_PX = 28, 14, 22, 24
CAPTION_PX, CAPTION_LINES = 25, 3
INK, SOFT, RULE, PAPER = (27, 29, 33), (96, 102, 112), (214, 215, 210), (255, 255, 255)
#: From pushed away to drawn towards; the ends differ in lightness from the middle and in hue for the colour-blind, too.
SCALE: tuple[Colour, ...] = ((165, 15, 38), (226, 108, 86), (246, 244, 240), (92, 155, 209), (20, 82, 158))
REGION_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 179, 134), (240, 228, 66), (255, 122, 61), (221, 143, 189), (111, 141, 255),
)  # fmt: skip
#: How much of the colour covers the grey picture.
COVER = 0.7
#: Ends of the colour scale that read well.
_LIMITS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
_NONE = "\u2013"
NOTE = (
    "φ: the lower of a region's success and preserve, 0 to 25. R: region reward, 0 to 1. Advantages compare samples "
    "of one request, place by place; hatched where missing."
)


@dataclass(frozen=True)
class SheetRegion:
    """One planned region. mask: (H, W) bool, in the source's frame."""

    key: str
    label: str
    mask: MaskBool


@dataclass(frozen=True)
class SheetSample:
    """One edited image, HWC uint8, with what is known of its places, by region key and `background`.

    advantages: what the policy was trained with; phi: 0..25; rewards: R_r in [0, 1]; None or absent where missing.
    """

    image: ImageU8
    advantages: Mapping[str, float | None]
    phi: Mapping[str, float | None]
    rewards: Mapping[str, float | None]


@dataclass(frozen=True)
class SheetRow:
    """One request and its samples. source: HWC uint8; samples of another size are brought to the source's."""

    instruction: str
    source: ImageU8
    regions: tuple[SheetRegion, ...]
    samples: tuple[SheetSample, ...]


def sheet(rows: Sequence[SheetRow], *, title: str = "", most: int = 5) -> Image.Image:
    """The sheet, RGB. most: samples shown of each request, evenly from the best to the worst by mean reward.

    Raises: ValueError without a request, for `most` below 1, or a mask of another size than its source.
    """
    if not rows or most < 1:
        raise ValueError("a sheet needs a request and room for a sample")
    blocks = [_Block(row, _shown(row.samples, most)) for row in rows]
    width = max(block.width for block in blocks) + 2 * MARGIN
    width = max(width, MARGIN * 2 + 700)
    limit = _limit(rows)
    head = 74
    heights = [block.height(width - 2 * MARGIN) for block in blocks]
    image = Image.new("RGB", (width, head + sum(heights) + MARGIN + 12), PAPER)
    pen = _Pen(image, ImageDraw.Draw(image))
    _head(pen, title, limit)
    top = head
    for block, height in zip(blocks, heights, strict=True):
        block.paint(pen, top, limit)
        top += height
    pen.draw.line((MARGIN, top, width - MARGIN, top), fill=RULE)
    pen.text((MARGIN, top + 10), clipped(NOTE, 11, width - 2 * MARGIN), 11, SOFT)
    return image


def sheet_png(image: Image.Image) -> bytes:
    """The sheet as PNG bytes, without metadata."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


@lru_cache(maxsize=32)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    found = find_spec("matplotlib")  # not imported: that takes seconds
    if found is None or found.origin is None:
        raise MissingPackage("matplotlib", "is not installed", "pip install matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@dataclass(frozen=True)
class _Pen:
    """The picture while it is drawn."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    def text(
        self,
        at: tuple[float, float],
        words: str,
        size: int = 13,
        ink: Colour = INK,
        anchor: str = "la",
        bold: bool = False,
    ) -> None:
        self.draw.text(at, words, fill=ink, font=_font(size, bold), anchor=anchor)

    def badge(self, centre: tuple[float, float], words: str, colour: Colour) -> None:
        """A region's number on a coloured plate with a dark rim."""
        half_width, half_height = _badge_half(words)
        x, y = centre
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        self.draw.rounded_rectangle(box, 4, fill=colour, outline=INK, width=1)
        self.text((x, y + 0.5), words, 11, INK, "mm", bold=True)


def _badge_half(words: str) -> tuple[int, int]:
    return 5 + 4 * len(words), 8


def wrapped(text: str, size: int, room: float, most: int, *, bold: bool = False) -> list[str]:
    """`text` in lines no wider than `room` px, at most `most`; what does not fit is cut with an ellipsis."""
    lines = [""]
    for word in "".join(c if c.isprintable() else " " for c in text).split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or _font(size, bold).getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
        if len(lines) > most:
            break
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} {lines[most]}"]
    return [clipped(line, size, room, bold=bold) for line in lines]


def clipped(text: str, size: int, room: float, *, bold: bool = False) -> str:
    """`text` cut with an ellipsis to at most `room` px."""
    font = _font(size, bold)
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + "…") <= room else (low, middle - 1)
    return text[:low].rstrip() + "…"


def advantage_colour(advantage: float, limit: float) -> Colour:
    """The colour of an advantage on a scale from -limit to limit."""
    place = (min(max(advantage / limit, -1.0), 1.0) + 1) / 2 * (len(SCALE) - 1)
    low = min(int(place), len(SCALE) - 2)
    share = place - low
    r, g, b = (round(a + share * (z - a)) for a, z in zip(SCALE[low], SCALE[low + 1], strict=True))
    return r, g, b


def _limit(rows: Sequence[SheetRow]) -> float:
    """The end of the colour scale: the least readable one that holds every advantage, 5 at most."""
    known = [a for row in rows for sample in row.samples for a in sample.advantages.values() if a is not None]
    largest = max((abs(advantage) for advantage in known if np.isfinite(advantage)), default=0.0)
    return next((limit for limit in _LIMITS if largest <= limit), _LIMITS[-1])


def _shown(samples: Sequence[SheetSample], most: int) -> list[tuple[str, SheetSample]]:
    """(what it is called, sample): evenly over the ranks by mean reward, the unscored last, in their order."""
    means = [mean_reward(sample) for sample in samples]
    order = sorted(range(len(samples)), key=lambda i: (means[i] is None, -(means[i] or 0.0), i))
    n = len(order)
    ranks = range(n) if n <= most else sorted({round(k * (n - 1) / max(1, most - 1)) for k in range(most)})
    named = []
    for rank in ranks:
        place = f"rank {rank + 1} of {n}"
        name = f"best of {n}" if rank == 0 and n > 1 else f"worst of {n}" if 0 < rank == n - 1 else place
        named.append((name if means[order[rank]] is not None else "not scored", samples[order[rank]]))
    return named


def mean_reward(sample: SheetSample) -> float | None:
    """The mean of R_r over the edit regions; None where one is missing or there is none."""
    rewards = [reward for key, reward in sample.rewards.items() if key != BACKGROUND]
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known and len(known) == len(rewards) else None


def _head(pen: _Pen, title: str, limit: float) -> None:
    """The title, and the legend of the colours with its numbers."""
    bar, right = 220, pen.image.width - MARGIN - 92
    pen.text((MARGIN, 24), clipped(title, 19, right - bar - 170 - MARGIN, bold=True), 19, bold=True)
    left = right - bar
    for x in range(bar):
        colour = advantage_colour((2 * x / (bar - 1) - 1) * limit, limit)
        pen.draw.line((left + x, 24, left + x, 37), fill=colour)
    pen.draw.rectangle((left, 24, right, 38), outline=SOFT)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        tick, value = left + share * bar, (2 * share - 1) * limit
        pen.draw.line((tick, 38, tick, 42), fill=SOFT)
        pen.text((tick, 44), _said(value, "+g") if value else "0", 11, SOFT, "ma")
    pen.text((left - 8, 31), "advantage: pushed away", 11, SOFT, "rm")
    pen.text((right + 8, 31), "drawn towards", 11, SOFT, "lm")


@dataclass(frozen=True)
class _Block:
    """One request on the sheet, with the samples that are shown."""

    row: SheetRow
    samples: list[tuple[str, SheetSample]]

    def __post_init__(self) -> None:
        for region in self.row.regions:
            if region.mask.shape != self.row.source.shape[:2]:
                raise ValueError(f"region {region.key} has a mask of {region.mask.shape}, not of its source's size")

    @property
    def tile(self) -> tuple[int, int]:
        """(width, height) of a picture as it is drawn."""
        height, width = self.row.source.shape[:2]
        longest = max(width, height)
        if longest <= ENLARGED_PX:
            scale = ENLARGED_PX // longest
            return width * scale, height * scale
        return fit_size_px(width, height, LARGEST_PX)

    @property
    def column(self) -> int:
        """Width of a column: a picture, or what its numbers need."""
        return max(self.tile[0], LEAST_TILE_PX)

    @property
    def width(self) -> int:
        """Width of the whole block."""
        return (len(self.samples) + 1) * (self.column + GAP) - GAP

    def height(self, room: int) -> int:
        """Height of the whole block on a sheet with `room` px between its margins."""
        lines = len(self._caption(room))
        numbers = LINE_PX * (len(self.row.regions) + 2)
        return 16 + CAPTION_PX * lines + TITLE_PX + 2 * self.tile[1] + GAP // 2 + 8 + numbers + 14

    def _caption(self, room: int) -> list[str]:
        return wrapped(self.row.instruction, 17, room, CAPTION_LINES, bold=True) or [""]

    def paint(self, pen: _Pen, top: int, limit: float) -> None:
        """Draws the block from `top` on."""
        pen.draw.line((MARGIN, top, pen.image.width - MARGIN, top), fill=RULE)
        caption = self._caption(pen.image.width - 2 * MARGIN)
        for number, line in enumerate(caption):
            pen.text((MARGIN, top + 14 + CAPTION_PX * number), line, 17, bold=True)
        top += 16 + CAPTION_PX * len(caption)
        masks = [_fitted_mask(region.mask, self.tile) for region in self.row.regions]
        signs = _sign_places(masks, self.tile)
        self._source(pen, (MARGIN, top), masks, signs)
        for number, (name, sample) in enumerate(self.samples, 1):
            left = MARGIN + number * (self.column + GAP)
            self._sample(pen, (left, top), (name, sample), masks, signs, limit)

    def _pictures(
        self, pen: _Pen, at: tuple[int, int], first: ImageU8, second: ImageU8, signs: Sequence[tuple[int, int]]
    ) -> None:
        """Two pictures under another, the regions' numbers on the second."""
        left, top = at[0], at[1] + TITLE_PX
        below = top + self.tile[1] + GAP // 2
        for place, picture in ((top, first), (below, second)):
            pen.image.paste(Image.fromarray(picture, "RGB"), (left, place))
            pen.draw.rectangle((left - 1, place - 1, left + self.tile[0], place + self.tile[1]), outline=RULE)
        for number, (x, y) in enumerate(signs):
            pen.badge((left + x, below + y), str(number + 1), _region_colour(number))

    def _source(
        self, pen: _Pen, at: tuple[int, int], masks: Sequence[MaskBool], signs: Sequence[tuple[int, int]]
    ) -> None:
        pen.text((at[0], at[1] + 2), "source", 13, SOFT)
        picture = _fitted(self.row.source, self.tile)
        outlined = picture.copy()
        for number, mask in enumerate(masks):
            tinted = 0.78 * outlined[mask] + 0.22 * np.array(_region_colour(number))
            outlined[mask] = tinted.astype(np.uint8)
        for number, mask in enumerate(masks):
            _outline(outlined, mask, _region_colour(number))
        self._pictures(pen, at, picture, outlined, signs)
        top = self._numbers_top(at[1]) + LINE_PX
        for number, region in enumerate(self.row.regions):
            y = top + LINE_PX * number + LINE_PX / 2
            pen.badge((at[0] + 14, y), str(number + 1), _region_colour(number))
            pen.text((at[0] + 36, y), clipped(_printable(region.label), 13, self.column - 40), 13, INK, "lm")
        y = top + LINE_PX * len(self.row.regions) + LINE_PX / 2
        pen.text((at[0] + 36, y), "background", 13, SOFT, "lm")

    def _numbers_top(self, top: int) -> int:
        return top + TITLE_PX + 2 * self.tile[1] + GAP // 2 + 8

    def _sample(
        self,
        pen: _Pen,
        at: tuple[int, int],
        named: tuple[str, SheetSample],
        masks: Sequence[MaskBool],
        signs: Sequence[tuple[int, int]],
        limit: float,
    ) -> None:
        name, sample = named
        mean = mean_reward(sample)
        pen.text((at[0], at[1] + 2), name, 13, SOFT)
        right = at[0] + max(self.tile[0], NAME_PX)
        pen.text((right, at[1] + 2), f"mean R {_said(mean, '.2f')}", 13, INK, "ra", bold=True)
        height, width = self.row.source.shape[:2]
        picture = _fitted(resize_image(sample.image, width, height), self.tile)
        painted = _painted(picture, self.row.regions, masks, sample.advantages, limit)
        self._pictures(pen, at, picture, painted, signs)
        self._numbers(pen, (at[0], self._numbers_top(at[1])), sample, limit)

    def _numbers(self, pen: _Pen, at: tuple[int, int], sample: SheetSample, limit: float) -> None:
        """A line a region and one for the background: advantage on its colour, R_r, phi_r."""
        left, top = at
        columns = (left + 38, left + 108, left + 166, left + 226)
        for x, words in zip(columns[1:], ("advantage", "R", "φ"), strict=True):
            pen.text((x, top + 3), words, 11, SOFT, "ra")
        keys = [*(region.key for region in self.row.regions), BACKGROUND]
        for number, key in enumerate(keys):
            y = top + LINE_PX * (number + 1)
            middle = y + LINE_PX / 2
            if key == BACKGROUND:
                pen.text((left + 14, middle), "bg", 11, SOFT, "mm")
            else:
                pen.badge((left + 14, middle), str(number + 1), _region_colour(number))
            advantage, box = _finite(sample.advantages.get(key)), (columns[0], y + 2, columns[1] + 4, y + LINE_PX - 2)
            fill = (238, 238, 235) if advantage is None else advantage_colour(advantage, limit)
            pen.draw.rounded_rectangle(box, 4, fill=fill)
            pen.text((columns[1], middle), _said(advantage, "+.2f"), 13, _ink_on(fill), "rm", bold=True)
            pen.text((columns[2], middle), _said(sample.rewards.get(key), ".2f"), 13, INK, "rm")
            pen.text((columns[3], middle), _said(sample.phi.get(key), ".1f"), 13, INK, "rm")


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _said(value: float | None, form: str) -> str:
    known = _finite(value)
    return _NONE if known is None else format(known, form).replace("-", "\u2212")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _region_colour(number: int) -> Colour:
    return REGION_COLOURS[number % len(REGION_COLOURS)]


def _ink_on(colour: Colour) -> Colour:
    """Dark or white, whichever is read better on `colour`."""
    return INK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 135 else PAPER


def _fitted(image: ImageU8, tile: tuple[int, int]) -> ImageU8:
    """`image` in a tile: whole pixels enlarged, or scaled down."""
    scale = tile[0] // image.shape[1]
    if scale > 1:
        return np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1))
    return resize_image(image, *tile).copy()


def _fitted_mask(mask: MaskBool, tile: tuple[int, int]) -> MaskBool:
    return resize_mask(mask, *tile)


def _outline(image: ImageU8, mask: MaskBool, colour: Colour) -> None:
    """Draws the border of a mask into `image`: a coloured line in a dark casing."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for thickness, ink in ((4, INK), (2, colour)):
        cv2.drawContours(image, found, -1, ink, thickness, cv2.LINE_AA)


def _painted(
    picture: ImageU8,
    regions: Sequence[SheetRegion],
    masks: Sequence[MaskBool],
    advantages: Mapping[str, float | None],
    limit: float,
) -> ImageU8:
    """The picture in grey under the colours of its advantages; small regions lie over large ones."""
    colours = np.empty(picture.shape, dtype=np.float64)
    colours[:] = _fill(advantages.get(BACKGROUND), limit, picture.shape[:2])
    order = sorted(range(len(masks)), key=lambda number: -int(masks[number].sum()))
    for number in order:
        mask = masks[number]
        colours[mask] = _fill(advantages.get(regions[number].key), limit, picture.shape[:2])[mask]
    grey = 80 + 0.65 * cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)[..., None]
    painted: ImageU8 = np.asarray(COVER * colours + (1 - COVER) * grey + 0.5, dtype=np.uint8)
    for mask in masks:
        _outline(painted, mask, PAPER)
    return painted


def _fill(advantage: float | None, limit: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W, 3) of one colour; hatched grey for a missing advantage."""
    known = _finite(advantage)
    if known is not None:
        return np.broadcast_to(np.array(advantage_colour(known, limit), dtype=np.float64), (*shape, 3))
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.where(((xs + ys) % 12 < 3)[..., None], 120.0, 205.0).repeat(3, axis=2)


def _sign_places(masks: Sequence[MaskBool], tile: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the number of each region stands: deep inside it, or as near as there is room beside the others."""
    taken: list[tuple[int, int, int, int]] = []
    places = []
    for number, mask in enumerate(masks):
        half_width, half_height = _badge_half(str(number + 1))
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
    wanted: tuple[int, int], half: tuple[int, int], taken: Sequence[tuple[int, int, int, int]], tile: tuple[int, int]
) -> tuple[int, int]:
    """The place nearest to `wanted`, inside the tile, whose box meets no box of `taken`; `wanted` where all is full."""

    def inside(x: int, y: int) -> tuple[int, int]:
        return min(max(x, half[0]), tile[0] - half[0] - 1), min(max(y, half[1]), tile[1] - half[1] - 1)

    steps = ceil(max(tile) / 6)
    offsets = sorted(
        ((dx * 6, dy * 6) for dx in range(-steps, steps + 1) for dy in range(-steps, steps + 1)),
        key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset),
    )
    for dx, dy in offsets:
        x, y = inside(wanted[0] + dx, wanted[1] + dy)
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            return x, y
    return inside(*wanted)
