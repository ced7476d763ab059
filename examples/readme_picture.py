"""Draws the picture of the README from the demo's dataset: `python examples/readme_picture.py RUN OUT.png`.

One request for three edits, its source, and two of its candidates: each named region outlined in the colour of its phi,
with phi and R below. The scores are those of the dataset's rows.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.dataset.shards import read_dataset, read_manifest
from runtime.files import write_whole
from runtime.images import ImageU8, decode_image, encode_image, resize_image, resize_mask
from runtime.masks import rle_to_mask
from schemas.dataset_row import DatasetRegion, DatasetRow
from schemas.errors import BadInput
from training.pictures.drawing import INK, PAPER, RULE, SOFT, Canvas, Xy, draw_outline, ink_on
from training.pictures.scored_pair import score_colour
from training.pictures.text import clipped, sheet_font

#: A request on a photograph in the public domain (`examples/photos/README.md`), and the ends of its candidates' keys.
REQUEST = "2f924e5f9c273d4f"
CANDIDATES = ("01c65e", "1db941")
TILE_PX, GAP_PX, MARGIN_PX, ROW_PX = 420, 20, 24, 42


def main(run: Path, out: Path) -> None:
    """Draws the picture. Raises: BadInput where the run has not these candidates."""
    rows = _candidates(run / "dataset")
    first, members = rows[0]
    source = _tile(decode_image(members["source.png"]))
    height = source.shape[0]
    width = 3 * TILE_PX + 2 * GAP_PX + 2 * MARGIN_PX
    table = MARGIN_PX + 56 + height + 16
    sheet = Canvas.blank(width, table + ROW_PX * len(_named(first)) + MARGIN_PX)
    title = clipped(first.instruction, 18, width - 2 * MARGIN_PX, bold=True)
    _text(sheet, (MARGIN_PX, MARGIN_PX), title, 18, bold=True)
    columns = ("source", *(f"candidate {number + 1}" for number in range(len(rows))))
    pictures = (source, *(_outlined(row, found["edited.png"]) for row, found in rows))
    for column, (title, picture) in enumerate(zip(columns, pictures, strict=True)):
        x = MARGIN_PX + column * (TILE_PX + GAP_PX)
        _text(sheet, (x, MARGIN_PX + 34), title, 15)
        sheet.image.paste(Image.fromarray(picture), (x, MARGIN_PX + 56))
    for line, region in enumerate(_named(first)):
        y = table + line * ROW_PX
        sheet.draw.line((MARGIN_PX, y, width - MARGIN_PX, y), fill=RULE)
        _text(sheet, (MARGIN_PX, y + 11), clipped(region.label, 17, TILE_PX), 17)
    for column, (row, _) in enumerate(rows, 1):
        _scores(sheet, row, MARGIN_PX + column * (TILE_PX + GAP_PX), table)
    write_whole(out, encode_image(np.array(sheet.image), "png"))


def _candidates(dataset: Path) -> list[tuple[DatasetRow, dict[str, bytes]]]:
    """The candidates of the picture, in its order."""
    found: dict[str, tuple[DatasetRow, dict[str, bytes]]] = {}
    for split in sorted({shard.split for shard in read_manifest(dataset).shards}):
        for _, row, members in read_dataset(dataset, split):
            if row.request == REQUEST:
                found |= {end: (row, members) for end in CANDIDATES if row.key.endswith(end)}
    if missing := [end for end in CANDIDATES if end not in found]:
        raise BadInput(str(dataset), f"has no candidate {missing[0]} of request {REQUEST}", "build it with `make demo`")
    return [found[end] for end in CANDIDATES]


def _named(row: DatasetRow) -> list[DatasetRegion]:
    return [region for region in row.regions if region.phi is not None]


def _tile(image: ImageU8) -> ImageU8:
    return resize_image(image, TILE_PX, round(TILE_PX * image.shape[0] / image.shape[1]))


def _outlined(row: DatasetRow, edited: bytes) -> ImageU8:
    """The edited image with the outline of every named region, in the colour of its phi."""
    image = _tile(decode_image(edited)).copy()
    for region in _named(row):
        mask = resize_mask(rle_to_mask(region.mask), image.shape[1], image.shape[0])
        draw_outline(image, mask, ((7, INK), (5, PAPER), (3, score_colour(region.phi))))
    return image


def _scores(sheet: Canvas, row: DatasetRow, x: int, table: int) -> None:
    """phi on a plate of its colour, and R, of every named region."""
    for line, region in enumerate(_named(row)):
        y = table + line * ROW_PX
        colour = score_colour(region.phi)
        sheet.draw.rounded_rectangle((x, y + 6, x + 96, y + ROW_PX - 6), 6, fill=colour)
        _text(sheet, (x + 12, y + 11), f"phi {region.phi:.0f}", 17, ink=ink_on(colour, 140), bold=True)
        reward = "missing" if region.reward is None else f"{region.reward:.2f}"
        _text(sheet, (x + 112, y + 11), f"R {reward}", 17, ink=SOFT)


def _text(sheet: Canvas, at: Xy, words: str, size: int, *, ink: tuple[int, int, int] = INK, bold: bool = False) -> None:
    sheet.draw.text(at, words, fill=ink, font=sheet_font(size, bold))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
