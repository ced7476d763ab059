"""How an edited image lies to its source: shifted, zoomed, turned, as editing models answer."""

from typing import Annotated

from pydantic import ConfigDict, Field

from schemas.record import Record


class Alignment(Record):
    """The affine map from the source's frame to the edited image as it came, brought to the source's size.

    Lengths in pixels of the source. What the map says is undone in the edited image that a row shows.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    dx_px: float = 0.0
    """how far to the right the source's middle lies in the edited image"""
    dy_px: float = 0.0
    """how far below"""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """how many times as large the edited image shows things (square root of the area's factor)"""
    degrees: float = 0.0
    """by how much it is turned, clockwise as one sees it"""
    aspect: Annotated[float, Field(gt=0)] = 1.0
    """how many times as much wider than higher it shows things"""
    shear: float = 0.0
    """how far a thing of one pixel's height leans to the right"""
    agreement: Annotated[float, Field(ge=0, le=1)] | None
    """share of the source's textured cells whose detail is there in the edited image; null where nothing has texture"""
    residual_levels: Annotated[float, Field(ge=0)] | None
    """median difference of detail (0..255) in those cells; null where there are none"""
