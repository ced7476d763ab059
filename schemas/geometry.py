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
