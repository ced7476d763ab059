"""One row of the exported dataset: the JSON member of a sample in a tar."""

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.candidate import AppliedEdit, Defect
from schemas.geometry import Box, CocoRle, Frame
from schemas.record import Document, Id, Record, Scalar, Sha256
from schemas.region import MaskOrigin, RegionKey, RegionStatus
from schemas.request import ExternalName, Instruction, Label, RequestKind, Role, Split, Target
from schemas.sample import Measure
from schemas.score import MeanScore


class DatasetRegion(Record):
    """One region of one candidate, SFReward style. mask: COCO RLE, the same pixels as the member `mask<n>.png`.

    phi: min(success, preserve), 0..25. reward: R_r in [0, 1]. None is a missing score.
    """

    region: RegionKey
    label: Label
    role: Role | None
    status: RegionStatus
    origin: MaskOrigin
    frame: Frame
    planned_box: Box | None
    box: Box | None
    area_px: int
    confidence: float
    mask: CocoRle
    success: MeanScore
    preserve: MeanScore
    phi: MeanScore
    reward: Annotated[float, Field(ge=0, le=1)] | None


class DatasetRow(Document):
    """One candidate with its source, its regions and their scores. Scores 0..25 or None (missing)."""

    schema_name: ClassVar[str] = "dataset-row"

    key: str
    split: Split
    request: Id
    request_name: ExternalName
    candidate: Id
    candidate_index: int
    kind: RequestKind
    edit_type: Label
    instruction: Instruction
    turns: tuple[Instruction, ...]
    targets: tuple[Target, ...]
    source_names: tuple[ExternalName, ...]
    source_pixels_sha256: tuple[Sha256, ...]
    edited_pixels_sha256: Sha256
    width_px: int
    height_px: int
    editor: Label
    revision: ExternalName | None
    seed: int | None
    parameters: dict[str, Scalar]
    edits: tuple[AppliedEdit, ...]
    defects: tuple[Defect, ...]
    regions: tuple[DatasetRegion, ...]
    background: MeanScore
    background_reward: Annotated[float, Field(ge=0, le=1)] | None
    success: MeanScore
    overedit: MeanScore
    naturalness: MeanScore
    artifacts: MeanScore
    aesthetics: MeanScore
    rater: str | None
    measures: tuple[Measure, ...]
    synthetic: bool
