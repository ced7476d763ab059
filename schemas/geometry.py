"""Boxes and masks as they stand in records.

A box is `[x1, y1, x2, y2]` in whole pixels, half-open, in a frame that the record names (`source` or `edited`).
A mask is COCO's compressed run-length encoding (column-major), as pycocotools reads it.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.record import Record

Frame = Literal["source", "edited"]


def _has_area(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = box
    if x1 < 0 or y1 < 0:
        raise ValueError(f"box {list(box)} begins outside the image")
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {list(box)} has no area")
    return box


Box = Annotated[
    tuple[int, int, int, int],
    AfterValidator(_has_area),
    Field(description="[x1, y1, x2, y2] in pixels, half-open"),
]


class CocoRle(Record):
    """A binary mask in COCO's compressed RLE. size: [height, width]; counts: its ASCII string."""

    size: tuple[Annotated[int, Field(gt=0, le=65_535)], Annotated[int, Field(gt=0, le=65_535)]]
    counts: Annotated[str, Field(max_length=4_000_000, pattern=r"^[\x30-\x6f]*$")]


def box_in_image(box: Box, width_px: int, height_px: int) -> bool:
    """Whether `box` lies inside an image of this size."""
    return box[2] <= width_px and box[3] <= height_px


def rle_runs(counts: str) -> list[int]:
    """The run lengths in a COCO compressed RLE string. Raises: ValueError for a string that is none.

    Source: rleFrString in pycocotools' maskApi.c (5 bits a character, LEB128-like, then differences).
    """
    runs: list[int] = []
    value = shift = 0
    open_run = False
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("not a COCO RLE string")
        value |= (bits & 0x1F) << shift
        shift += 5
        open_run = bool(bits & 0x20)
        if not open_run:
            if bits & 0x10:
                value |= -1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            if runs[-1] < 0:
                raise ValueError("not a COCO RLE string: a negative run")
            value = shift = 0
    if open_run:
        raise ValueError("not a COCO RLE string: it ends inside a run")
    return runs
