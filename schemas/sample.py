"""The row that flows through the data stages, and the record of a row that was dropped."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.candidate import Candidate
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


class Sample(Document):
    """One row: a request, and once it is made, one candidate of it, with all that is known of it so far.

    key: the request's id before the candidates stage, `<request>-<candidate>` after it. brought: the images of
    request.candidates, in their order, scaled to the canvas; brought_faults: those that cannot be used.
    """

    schema_name: ClassVar[str] = "sample"

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}(-[0-9a-f]{16})?$")]
    request: EditRequest
    sources: tuple[ImageRef, ...]
    brought: tuple[ImageRef, ...] = ()
    brought_faults: tuple[BroughtFault, ...] = ()
    candidate: Candidate | None = None
    edited: ImageRef | None = None
    planned: tuple[PlannedRegion, ...] = ()
    observed: tuple[ObservedMask, ...] = ()
    scores: tuple[CandidateScore, ...] = ()
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
