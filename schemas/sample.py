"""The row that flows through the data stages, and the record of a row that was dropped."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from schemas.alignment import Alignment
from schemas.candidate import Candidate
from schemas.geometry import CocoRle
from schemas.record import Document, Record, Sha256
from schemas.region import ObservedMask, PlannedRegion
from schemas.request import EditRequest
from schemas.score import CandidateScore

ImageFormat = Literal["png", "jpeg"]


Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]+$", max_length=512, description="perceptual hash, hex")]


class ImageRef(Record):
    """Where an encoded image lies: `length` bytes at `offset` of `tar`, a path relative to the run folder."""

    tar: Annotated[str, Field(pattern=r"^images/[a-z]+/part-\d{5}\.tar$")]
    offset: Annotated[int, Field(ge=0, le=2**48)]
    length: Annotated[int, Field(gt=0, le=2**30)]
    sha256: Sha256
    format: ImageFormat


class BroughtFault(Record):
    """Why a candidate that the user brought along cannot be used. index: its place in the request's line."""

    index: Annotated[int, Field(ge=0)]
    reason: Annotated[str, Field(pattern="^[a-z0-9_]+$")]
    detail: Annotated[str, Field(max_length=500)]


class Measure(Record):
    """What one gate measured on one sample, beside its threshold."""

    gate: str
    value: float
    threshold: float


class PixelMeasures(Record):
    """What the pixels of a candidate say beside its source's: made once, and judged by the gates.

    Levels are 0..255; shares are of the image; outside is what lies outside the regions that may change.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    spread_levels: float
    """between the 1st and 99th percentile of the widest channel"""
    changed_share: float
    """found as changed"""
    drift_levels: float
    """mean distance by which the colours of the whole drifted"""
    roughness_levels: float
    """noise of lightness in the worst 16 px cell"""
    outside_share: float
    """of the image that has to be preserved; 0 where too little is left to judge by"""
    replaced_share: float
    """of that part, what shows something else"""
    distance_levels: float
    """mean distance over that part"""


class Sample(Document):
    """One row: a request, and once it is made, one candidate of it, with all that is known of it so far.

    key: the request's id before the candidates stage, `<request>-<candidate>` after it. brought: the images of
    request.candidates, in their order, as they came; brought_faults: those that cannot be used.
    edited: the candidate in the frame of sources[0]. original: as it came, where that is another image. alignment: how
    it lay to the source; None where the request asks for another frame. unseen: what of the source it does not show.
    """

    schema_name: ClassVar[str] = "sample"

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}(-[0-9a-f]{16})?$")]
    request: EditRequest
    sources: tuple[ImageRef, ...]
    brought: tuple[ImageRef, ...] = ()
    brought_faults: tuple[BroughtFault, ...] = ()
    candidate: Candidate | None = None
    edited: ImageRef | None = None
    original: ImageRef | None = None
    alignment: Alignment | None = None
    unseen: CocoRle | None = None
    planned: tuple[PlannedRegion, ...] = ()
    observed: tuple[ObservedMask, ...] = ()
    scores: tuple[CandidateScore, ...] = ()
    pixels: PixelMeasures | None = None
    measures: tuple[Measure, ...] = ()
    source_fingerprint: Fingerprint | None = None
    edited_fingerprint: Fingerprint | None = None


class Rejection(Document):
    """A row that was dropped: which, where, why, and the measure that decided. Rejected is a record, not an error."""

    schema_name: ClassVar[str] = "rejection"

    key: Annotated[str, Field(min_length=1, max_length=400)]
    name: Annotated[str, Field(max_length=200)]
    stage: Annotated[str, Field(pattern="^[a-z_]+$")]
    reason: Annotated[str, Field(pattern="^[a-z0-9_]+$")]
    detail: Annotated[str, Field(max_length=500)]
    measure: float | None = None
    threshold: float | None = None
    sample: Sample | None = None
