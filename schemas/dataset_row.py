"""One row of the exported dataset: the JSON member of a sample in a tar."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from schemas.alignment import Alignment
from schemas.candidate import AppliedEdit, Defect
from schemas.geometry import Box, CocoRle, Frame
from schemas.record import UPGRADES, Document, Id, Record, Scalar, Sha256
from schemas.region import MaskOrigin, RegionKey, RegionStatus
from schemas.request import ExternalName, Instruction, Label, RequestKind, Role, Split, Target
from schemas.sample import Measure
from schemas.score import MeanScore

SyntheticPart = Literal["source", "edit", "scores"]
RegionScoreName = Literal["success", "preserve"]
ImageScoreName = Literal["background", "success", "overedit", "naturalness", "artifacts"]


class ScoreSpread(Record):
    """How far raters agree on one score that is a consensus."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    spread: Annotated[float, Field(ge=0)] | None
    """standard deviation of their answers, 0..25; null for fewer than two"""
    n_raters: Annotated[int, Field(ge=0)]
    """how many answered"""
    n_missing: Annotated[int, Field(ge=0)]
    """how many were asked and did not answer"""


class DatasetRegion(Record):
    """One region of one candidate, SFReward style. mask: COCO RLE.

    phi: min(success, preserve), 0..25. reward: R_r in [0, 1]. None is a missing score.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    region: Annotated[
        RegionKey,
        Field(
            description="id of the planned region, shared by all candidates of a request, or `extra-n`: nobody asked"
        ),
    ]
    label: Label
    """what the region shows, in the request's words"""
    role: Role | None
    """what the instruction wants here; null where it asks nothing"""
    status: RegionStatus
    """`changed`: named and changed; `unchanged`: named, not changed; `unplanned`: changed, not named"""
    origin: MaskOrigin
    """how the mask was found"""
    frame: Frame
    """the image that mask and boxes lie in"""
    planned_box: Box | None
    """where the region was expected before any edit; null for an unplanned one"""
    box: Box | None
    """tight box around the mask; null where the mask is empty"""
    area_px: int
    """pixels in the mask"""
    confidence: float
    """how sure the mask is, 0 to 1"""
    mask: CocoRle
    """COCO's compressed RLE, of the candidate's size: `pycocotools.mask.decode` reads it"""
    success: MeanScore
    """whether the instruction was carried out here"""
    preserve: MeanScore
    """whether nothing here changed that should not have"""
    phi: MeanScore
    """min(success, preserve)"""
    reward: Annotated[float, Field(ge=0, le=1)] | None
    """sqrt(phi x AES) / 25, in [0, 1]"""
    spreads: dict[RegionScoreName, ScoreSpread] = {}
    """of success and preserve, where they are a consensus of raters; else empty"""


class DatasetRow(Document):
    """One candidate with its source, its regions and their scores. Scores 0..25 or None (missing)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    schema_name: ClassVar[str] = "dataset-row"
    schema_version: ClassVar[int] = 2

    key: str
    """`<request>-<candidate>`, the sample's key in the tar"""
    split: Split
    """decided by source image"""
    request: Annotated[Id, Field(description="hash of the sources' bytes, the instruction and the targets")]
    request_name: ExternalName
    """the name that the request's author gave it"""
    candidate: Annotated[Id, Field(description="hash of request, editor, revision, seed and parameters")]
    candidate_index: int
    """which of the request's candidates, from 0"""
    kind: RequestKind
    """one source and one turn, several sources, or several turns"""
    edit_type: Label
    """the request's one operation, `multi` for several, or the author's own name"""
    instruction: Instruction
    """what the editor was asked to do"""
    turns: tuple[Instruction, ...]
    """the instructions of a multi-turn request in their order, else empty"""
    targets: tuple[Target, ...]
    """the things that the instruction names, with boxes where they are known"""
    source_names: tuple[ExternalName, ...]
    """file names of the source images; the first is the one that is edited"""
    source_pixels_sha256: tuple[Sha256, ...]
    """sha256 over height, width and RGB bytes of each source"""
    edited_pixels_sha256: Annotated[Sha256, Field(description="the same of the candidate")]
    width_px: int
    """width of source and candidate"""
    height_px: int
    """height of source and candidate"""
    alignment: Alignment | None = None
    """how the candidate lay to the source before it was brought into its frame; null where that was not asked"""
    unseen: CocoRle | None = None
    """what of the source the candidate did not show: filled with the source, evidence of nothing; null for nothing"""
    editor: Label
    """who made the candidate"""
    revision: ExternalName | None
    """version of the editor, where it has one"""
    seed: int | None
    """seed of the candidate, where it is known"""
    parameters: dict[str, Scalar]
    """further settings of the editor"""
    edits: tuple[AppliedEdit, ...]
    """what was done to each target, where it is known by construction"""
    defects: tuple[Defect, ...]
    """flaws put in on purpose, each with its place and strength 0 to 1; empty where they are not known"""
    regions: tuple[DatasetRegion, ...]
    """one per region; `regions.png` shows the first as 1, the second as 2, ..."""
    background: MeanScore
    """whether everything outside the regions stayed as it was"""
    background_reward: Annotated[float, Field(ge=0, le=1)] | None
    """sqrt(background x AES) / 25, in [0, 1]"""
    success: MeanScore
    """the whole instruction: carried out?"""
    overedit: MeanScore
    """the whole image: nothing changed beyond the instruction?"""
    naturalness: MeanScore
    """does the image look natural?"""
    artifacts: MeanScore
    """is it free of artefacts?"""
    aesthetics: MeanScore
    """AES = min(naturalness, artifacts)"""
    spreads: dict[ImageScoreName, ScoreSpread] = {}
    """of the background's and the whole image's scores, where they are a consensus of raters; else empty"""
    rater: str | None
    """who gave the scores, `consensus:SNAPSHOT` for a robust mean over raters; null where there are none"""
    measures: tuple[Measure, ...]
    """what each gate measured on this candidate, beside its threshold"""
    synthetic: bool
    """whether source, edit or scores were made up by a program"""
    synthetic_parts: tuple[SyntheticPart, ...]
    """which of the three were"""


#: The row is the same; the masks beside it were stacked in one image, which readers refuse where it is large.
UPGRADES["dataset-row", 1] = dict
