"""Contact sheets of a policy's samples: instruction, samples, and the advantage of every region of every sample.

One block a request: the instruction; the source and some samples; below them the regions, outlined and numbered, and
each sample again in grey with the advantage of every region and of the background painted over it, blue where the
policy is drawn towards the sample and red where it is pushed away; below these the numbers. A missing advantage is
hatched. Everything is drawn with the font that comes with matplotlib, so that the same arguments give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from runtime.images import ImageU8, fit_size_px, resize_image, resize_mask
from runtime.masks import MaskBool
from schemas.reward import BACKGROUND
from training.pictures.advantage_colours import advantage_colour, finite, painted, readable_limit
from training.pictures.drawing import INK, RULE, SOFT, Canvas, Colour, Xy, ink_on
from training.pictures.region_marks import badge_half, badge_places, outline_region, region_colour
from training.pictures.sheet_rows import SheetRow, SheetSample, mean_reward, ranked_samples
from training.pictures.text import clipped, printable, sheet_font, wrapped

#: Small images are enlarged by a whole number, so that their pixels stay crisp; larger ones are scaled down.
ENLARGED_PX, LARGEST_PX = 288, 384
LEAST_TILE_PX, NAME_PX = 236, 190
MARGIN, GAP, LINE_PX, TITLE_PX = 28, 14, 22, 24
CAPTION_PX, CAPTION_LINES = 25, 3
#: Luminance of a plate from which its number is dark.
_LIGHT_FROM = 135
_NONE = "\u2013"
NOTE = (
    "φ: the lower of a region's success and preserve, 0 to 25. R: region reward, 0 to 1. Advantages compare samples "
    "of one request, place by place; hatched where missing."
)


def sheet(rows: Sequence[SheetRow], *, title: str = "", most: int = 5) -> Image.Image:
    """The sheet, RGB. most: samples shown of each request, evenly from the best to the worst by mean reward.

    Raises: ValueError without a request, for `most` below 1, or a mask of another size than its source.
    """
    if not rows or most < 1:
        raise ValueError("a sheet needs a request and room for a sample")
    blocks = [_Block(row, ranked_samples(row.samples, most)) for row in rows]
    width = max(block.width for block in blocks) + 2 * MARGIN
    width = max(width, MARGIN * 2 + 700)
    limit = readable_limit(a for row in rows for sample in row.samples for a in sample.advantages.values())
    head = 74
    heights = [block.height(width - 2 * MARGIN) for block in blocks]
    pen = _Pen.blank(width, head + sum(heights) + MARGIN + 12)
    _head(pen, title, limit)
    top = head
    for block, height in zip(blocks, heights, strict=True):
        block.paint(pen, top, limit)
        top += height
    pen.draw.line((MARGIN, top, width - MARGIN, top), fill=RULE)
    pen.text((MARGIN, top + 10), clipped(NOTE, 11, width - 2 * MARGIN), 11, SOFT)
    return pen.image


def sheet_png(image: Image.Image) -> bytes:
    """The sheet as PNG bytes, without metadata."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


class _Pen(Canvas):
    """A sheet while it is drawn."""

    def text(
        self,
        at: Xy,
        words: str,
        size: int = 13,
        ink: Colour = INK,
        anchor: str = "la",
        bold: bool = False,
    ) -> None:
        self.draw.text(at, words, fill=ink, font=sheet_font(size, bold), anchor=anchor)

    def badge(self, centre: Xy, words: str, colour: Colour) -> None:
        """A region's number on a coloured plate with a dark rim."""
        half_width, half_height = badge_half(words)
        x, y = centre
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        self.draw.rounded_rectangle(box, 4, fill=colour, outline=INK, width=1)
        self.text((x, y + 0.5), words, 11, INK, "mm", bold=True)


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
        masks = [resize_mask(region.mask, *self.tile) for region in self.row.regions]
        signs = badge_places(masks, self.tile)
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
            pen.badge((left + x, below + y), str(number + 1), region_colour(number))

    def _source(
        self, pen: _Pen, at: tuple[int, int], masks: Sequence[MaskBool], signs: Sequence[tuple[int, int]]
    ) -> None:
        pen.text((at[0], at[1] + 2), "source", 13, SOFT)
        picture = _fitted(self.row.source, self.tile)
        outlined = picture.copy()
        for number, mask in enumerate(masks):
            tinted = 0.78 * outlined[mask] + 0.22 * np.array(region_colour(number))
            outlined[mask] = tinted.astype(np.uint8)
        for number, mask in enumerate(masks):
            outline_region(outlined, mask, region_colour(number))
        self._pictures(pen, at, picture, outlined, signs)
        top = self._numbers_top(at[1]) + LINE_PX
        for number, region in enumerate(self.row.regions):
            y = top + LINE_PX * number + LINE_PX / 2
            pen.badge((at[0] + 14, y), str(number + 1), region_colour(number))
            pen.text((at[0] + 36, y), clipped(printable(region.label), 13, self.column - 40), 13, INK, "lm")
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
        covered = painted(picture, [region.key for region in self.row.regions], masks, sample.advantages, limit)
        self._pictures(pen, at, picture, covered, signs)
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
                pen.badge((left + 14, middle), str(number + 1), region_colour(number))
            advantage, box = finite(sample.advantages.get(key)), (columns[0], y + 2, columns[1] + 4, y + LINE_PX - 2)
            fill = (238, 238, 235) if advantage is None else advantage_colour(advantage, limit)
            pen.draw.rounded_rectangle(box, 4, fill=fill)
            pen.text((columns[1], middle), _said(advantage, "+.2f"), 13, ink_on(fill, _LIGHT_FROM), "rm", bold=True)
            pen.text((columns[2], middle), _said(sample.rewards.get(key), ".2f"), 13, INK, "rm")
            pen.text((columns[3], middle), _said(sample.phi.get(key), ".1f"), 13, INK, "rm")


def _said(value: float | None, form: str) -> str:
    known = finite(value)
    return _NONE if known is None else format(known, form).replace("-", "\u2212")


def _fitted(image: ImageU8, tile: tuple[int, int]) -> ImageU8:
    """`image` in a tile: whole pixels enlarged, or scaled down."""
    scale = tile[0] // image.shape[1]
    if scale > 1:
        return np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1))
    return resize_image(image, *tile).copy()
