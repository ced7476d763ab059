"""Planned regions (known before any edit) and observed masks (found on one candidate)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.geometry import Box, CocoRle, Frame
from schemas.record import Id, Record, short_hash
from schemas.request import Label, Role

MaskOrigin = Literal["target", "difference", "segmenter", "fusion", "annotator", "consensus"]
#: changed: planned and the pixels changed. unchanged: named but unchanged. unplanned: changed but not named.
RegionStatus = Literal["changed", "unchanged", "unplanned"]
RegionKey = Annotated[
    str, Field(pattern=r"^([0-9a-f]{16}|extra-\d{1,3})$", description="planned region id, or extra-n of its candidate")
]


class PlannedRegion(Record):
    """A region that source and instruction name; shared by all candidates and rollouts of its request.

    id: hash of request and target index. box: pixels in `frame`, the union of the old and new place for a move.
    """

    id: Id
    target: Annotated[int, Field(ge=0)]
    label: Label
    role: Role
    box: Box
    frame: Frame = "source"


class ObservedMask(Record):
    """One version of one region's mask on one candidate, keyed (candidate, region, origin).

    mask: same height and width as the candidate, in `frame`. confidence: 0..1. source_change_share: the share of the
    mask's pixels that differ from the source, where it was measured. cycle_iou: IoU of the region's mask on the source
    with what comes back when it is followed to the candidate and back again; only there where that was asked.
    """

    candidate: Id
    region: RegionKey
    origin: MaskOrigin
    frame: Frame = "edited"
    status: RegionStatus
    mask: CocoRle
    box: Box | None
    area_px: Annotated[int, Field(ge=0)]
    confidence: Annotated[float, Field(ge=0, le=1)]
    source_change_share: Annotated[float, Field(ge=0, le=1)] | None = None
    cycle_iou: Annotated[float | None, Field(ge=0, le=1, exclude_if=lambda value: value is None)] = None

    @model_validator(mode="after")
    def _status_fits_region(self) -> "ObservedMask":
        if (self.status == "unplanned") != self.region.startswith("extra-"):
            raise ValueError(f"region {self.region} cannot have status {self.status}")
        return self


def region_id(request: str, target: int) -> str:
    """The id of a planned region: hash of request and target index."""
    return short_hash("region", request, target)
