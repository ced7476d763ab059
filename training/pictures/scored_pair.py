"""A picture of a reward's scores of a pair, to agree or disagree with at a glance.

Source and edited image side by side; on the edited one every region's outline and sign, coloured from red (0) to green
(25) by its phi, and a frame by the background's score. Below, a bar for every score with its uncertainty as a whisker.
"""

import numpy as np
from PIL import Image, ImageFont

from runtime.images import ImageU8, resize_mask
from runtime.masks import MaskBool, mask_box
from schemas.reward import PredictedScore, ScoredPair, ScoredRegion
from schemas.score import SCORE_MAX
from training.pictures.drawing import (
    INK,
    PAPER,
    RULE,
    SOFT,
    Box,
    Canvas,
    Colour,
    Xy,
    colour_on_scale,
    draw_outline,
    ink_on,
    overlap,
)
from training.scoring.pairs import Pair

SIDE_PX, GAP, MARGIN = 400, 16, 20
ROW_PX, BAR_PX, BAR_HEIGHT_PX = 34, 148, 14
FRAME_PX = 7
MISSING = (150, 154, 160)
#: Luminance of a plate from which its number is dark.
_LIGHT_FROM = 140
#: From 0 to 25; lightness falls at both ends, so that it is read without colour sight, too.
SCALE: tuple[Colour, ...] = ((178, 24, 43), (233, 120, 60), (246, 205, 90), (140, 195, 110), (27, 120, 85))


class _Sheet(Canvas):
    """The picture of a pair while it is drawn."""

    def text(self, at: Xy, words: str, size: float, ink: Colour = INK, anchor: str = "la", bold: bool = False) -> None:
        self.draw.text(
            at, words, fill=ink, font=_font(size), anchor=anchor, stroke_width=0.35 if bold else 0, stroke_fill=ink
        )


def draw_pair(pair: Pair, scored: ScoredPair) -> ImageU8:
    """The picture, (H, W, 3) uint8 RGB: 856 px wide for square images, taller the more regions there are."""
    height, width = pair.query.edited.shape[:2]
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    across = max(2 * size[0] + GAP, 816) + 2 * MARGIN
    lines = _wrapped(scored.instruction, 17, across - 2 * MARGIN, 4)
    top = MARGIN + 24 * len(lines) + 30
    table = top + size[1] + 22
    rows = len(scored.regions) + 1
    sheet = _Sheet.blank(across, table + 30 + ROW_PX * rows + 76 + MARGIN)
    for number, line in enumerate(lines):
        sheet.text((MARGIN, MARGIN + 24 * number), line, 17, bold=True)
    left = (across - 2 * size[0] - GAP) // 2
    _draw_images(sheet, pair, scored, (left, top), size)
    _draw_table(sheet, scored, table, across)
    return np.array(sheet.image)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrapped(text: str, size: float, room: float, most: int) -> list[str]:
    """`text` in lines that fit, at most `most`; a word too long for a line is cut."""
    font, lines = _font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = [_clipped(line, size, room) for line in lines[:most]]
    return cut if len(lines) <= most else [*cut[:-1], _clipped(cut[-1] + " ...", size, room)]


def _clipped(text: str, size: float, room: float) -> str:
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def score_colour(score: float | None) -> Colour:
    """The colour of a score 0..25; grey for a missing one."""
    if score is None:
        return MISSING
    return colour_on_scale(SCALE, score / SCORE_MAX)


def _draw_images(sheet: _Sheet, pair: Pair, scored: ScoredPair, at: tuple[int, int], size: tuple[int, int]) -> None:
    source, edited = (
        Image.fromarray(image, "RGB").resize(size, Image.Resampling.LANCZOS)
        for image in (pair.query.source, pair.query.edited)
    )
    second = at[0] + size[0] + GAP
    sheet.text((at[0], at[1] - 22), "source", 14, SOFT)
    sheet.text((second, at[1] - 22), "edited", 14, SOFT)
    behind = scored.background.mean
    caption = "missing" if behind is None else f"{behind:.0f}"
    sheet.text((second + size[0], at[1] - 22), f"frame: background {caption}", 14, SOFT, "ra")
    sheet.image.paste(source, at)
    outlined = np.array(edited)
    masks = [resize_mask(pair.query.masks[region.region], *size) for region in scored.regions]
    for region, mask in zip(scored.regions, masks, strict=True):
        draw_outline(outlined, mask, ((7, INK), (5, PAPER), (3, score_colour(region.phi))))
    sheet.image.paste(Image.fromarray(outlined), (second, at[1]))
    box = (second, at[1], second + size[0] - 1, at[1] + size[1] - 1)
    sheet.draw.rectangle(box, outline=PAPER, width=FRAME_PX + 2)
    sheet.draw.rectangle(box, outline=score_colour(behind), width=FRAME_PX)
    taken: list[Box] = []
    for number, (region, mask) in enumerate(zip(scored.regions, masks, strict=True), 1):
        _sign(sheet, number, region, mask, (second, at[1], *size), taken)


def _sign(
    sheet: _Sheet,
    number: int,
    region: ScoredRegion,
    mask: MaskBool,
    frame: tuple[int, int, int, int],
    taken: list[Box],
) -> None:
    """The region's number and phi, at its upper left, moved down from signs that are there already."""
    x1, y1, _, _ = mask_box(mask) or (0, 0, 1, 1)
    words = f"{number}: " + ("missing" if region.phi is None else f"{region.phi:.0f}")
    width, height = _font(15).getlength(words) + 12, 22
    x = min(max(frame[0] + x1, frame[0] + FRAME_PX + 3), frame[0] + frame[2] - width - FRAME_PX - 3)
    y = max(frame[1] + y1 - height - 4.0, frame[1] + FRAME_PX + 3.0)
    while any(overlap((x, y, x + width, y + height), other) for other in taken):
        y += 3
    taken.append((x, y, x + width, y + height))
    colour = score_colour(region.phi)
    sheet.draw.rounded_rectangle((x, y, x + width, y + height), 5, fill=colour, outline=PAPER, width=1)
    sheet.text((x + width / 2, y + height / 2), words, 15, ink_on(colour, _LIGHT_FROM), "mm", bold=True)


def _draw_table(sheet: _Sheet, scored: ScoredPair, top: int, across: int) -> None:
    """A row a region: success, preserve, phi; the background's; then the whole image."""
    columns = (across - MARGIN - 2 * (BAR_PX + 72) - 62, across - MARGIN - BAR_PX - 72 - 62, across - MARGIN - 28)
    for x, title in zip(columns, ("success", "preserve"), strict=False):
        sheet.text((x, top), title, 13, SOFT)
    sheet.text((columns[2], top), "lowest", 13, SOFT, "ma")
    y = top + 22
    for number, region in enumerate(scored.regions, 1):
        label = f"{number}  {region.label}" + ("  (found)" if region.origin == "found" else "")
        _row(sheet, y, columns, label, (region.success, region.preserve), region.phi)
        y += ROW_PX
    nothing = "" if scored.regions else "  (no change was found in any one place)"
    _row(sheet, y, columns, f"background{nothing}", (None, scored.background), scored.background.mean)
    y += ROW_PX + 6
    _draw_whole(sheet, scored, y, across)
    sheet.text(
        (MARGIN, y + 48),
        _clipped(
            f"scored by {scored.rater}; 0 is worst, 25 best; a whisker is one standard deviation each way",
            12,
            across - 2 * MARGIN,
        ),
        12,
        SOFT,
    )


def _row(
    sheet: _Sheet,
    y: int,
    columns: tuple[int, int, int],
    label: str,
    bars: tuple[PredictedScore | None, PredictedScore],
    lowest: float | None,
) -> None:
    sheet.draw.line((MARGIN, y, sheet.image.width - MARGIN, y), fill=RULE)
    sheet.text((MARGIN, y + ROW_PX / 2), _clipped(label, 15, columns[0] - MARGIN - 12), 15, anchor="lm")
    for x, score in zip(columns, bars, strict=False):
        if score is not None:
            _bar(sheet, (x, y + (ROW_PX - BAR_HEIGHT_PX) // 2), BAR_PX, score)
    colour = score_colour(lowest)
    words = "-" if lowest is None else f"{lowest:.0f}"
    sheet.draw.rounded_rectangle((columns[2] - 22, y + 5, columns[2] + 22, y + ROW_PX - 5), 5, fill=colour)
    sheet.text((columns[2], y + ROW_PX / 2), words, 16, ink_on(colour, _LIGHT_FROM), "mm", bold=True)


def _bar(sheet: _Sheet, at: tuple[float, float], width: int, score: PredictedScore) -> None:
    """A bar from 0 to 25 with a whisker of one standard deviation each way, and the number behind it."""
    x, y = at
    bottom = y + BAR_HEIGHT_PX
    sheet.draw.rectangle((x, y, x + width, bottom), outline=RULE, fill=(244, 244, 241))
    if score.mean is None:
        sheet.text((x + 6, y + BAR_HEIGHT_PX / 2), "missing", 12, SOFT, "lm")
        return
    end = x + width * score.mean / SCORE_MAX
    sheet.draw.rectangle((x, y, end, bottom), fill=score_colour(score.mean))
    words = f"{score.mean:.1f}"
    if score.std is not None:
        words += f" ± {score.std:.1f}"
        low, high = max(x, end - width * score.std / SCORE_MAX), min(x + width, end + width * score.std / SCORE_MAX)
        middle = y + BAR_HEIGHT_PX / 2
        sheet.draw.line((low, middle, high, middle), fill=INK, width=2)
        for edge in (low, high):
            sheet.draw.line((edge, y + 2, edge, bottom - 2), fill=INK, width=2)
    sheet.text((x + width + 6, y + BAR_HEIGHT_PX / 2), words, 12, INK, "lm")


def _draw_whole(sheet: _Sheet, scored: ScoredPair, y: int, across: int) -> None:
    names = ("success", "overedit", "naturalness", "artifacts")
    step = (across - 2 * MARGIN) / len(names)
    for place, name in enumerate(names):
        x = MARGIN + place * step
        sheet.text((x, y), f"whole image: {name}", 12, SOFT)
        _bar(sheet, (x, y + 18), round(step) - 76, getattr(scored, name))
