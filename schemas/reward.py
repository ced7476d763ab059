"""The files of `<run>/reward/`: training curves, figures of the tests, predictions to look at; and a pair to score.

`curves.json`       TrainingCurves, written by the trainer
`metrics.json`      RewardMetrics, written by `training.evaluation`
`predictions.jsonl` one RewardExample a line, pictures of the best and worst ones beside it

Whoever reads them needs no torch. An AUROC compares defective places with sound places of the same sort only, regions
with regions and backgrounds with backgrounds; 0.5 is chance.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from schemas.geometry import Box, CocoRle
from schemas.record import Document, Record
from schemas.request import Instruction, Label
from schemas.score import MeanScore

#: The key of the background where places are keyed by region.
BACKGROUND = "background"
Share = Annotated[float, Field(ge=0, le=1)]
Band = Literal["all", "weak", "medium", "strong"]
Place = Literal["all", "region", "background"]
PicturePath = Annotated[str, Field(pattern=r"^pictures/[A-Za-z0-9_-]{1,120}\.png$")]


class PredictedScore(Record):
    """One predicted score. mean: 0..25 or missing; std: how unsure, same unit."""

    mean: MeanScore
    std: Annotated[float, Field(ge=0)] | None = None


class CurveBin(Record):
    """Held-out scores of about the same predicted mean, and what raters gave them on average; both 0..25."""

    predicted: float
    scored: float
    n: int


class ScoreCalibration(Record):
    """How well one score fits the held-out split. error: mean distance of predicted from given means over bins, 0..25;
    coverage_90: share of given scores inside the 90 % intervals. Further fields are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    n: int
    error: float | None
    mean_absolute_error: float | None
    coverage_90: Share | None
    curve: tuple[CurveBin, ...]


class TrainingCurves(Document):
    """The course of one training. history: `step` and what was measured since the point before it, by name.

    calibration: by score, as `region.success`, `image.background`. start: random weights, or those that come with the
    product. Further fields are passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    schema_name: ClassVar[str] = "training-curves"

    history: tuple[dict[str, float], ...]
    calibration: dict[str, ScoreCalibration] = {}
    start: Literal["fresh", "shipped"] = "fresh"


class AurocRow(Record):
    """How well one reward's own score of a place tells defective places from sound ones.

    reward: `reward`, or the name of a rival. defect: a kind, or `macro` for the mean over kinds. low, high: 95 %
    bootstrap interval over sources. None where there was nothing to compare.
    """

    reward: str
    defect: str
    band: Band = "all"
    place: Place = "all"
    auroc: Share | None
    low: Share | None
    high: Share | None
    n_defective: Annotated[int, Field(ge=0)]
    n_sound: Annotated[int, Field(ge=0)]


class GapRow(Record):
    """The reward's AUROC less a rival's on the same cases; low, high: 95 % interval from the same resamples."""

    rival: str
    defect: str
    gap: float | None
    low: float | None
    high: float | None


class TwinRow(Record):
    """How often the flawed place is the one of all places: whose score falls most against its clean twin (`twins`), or
    whose score is lowest (`named`). Ties are shared. chance: the same for a reward that guesses.
    """

    reward: str
    defect: str
    n: Annotated[int, Field(ge=0)]
    share_right: Share | None
    low: Share | None
    high: Share | None
    chance: Share | None


class ProbeRow(Record):
    """What becomes of a reward when its input is tampered with.

    before: macro AUROC of the same cases untouched; follows: macro AUROC when the labels go where the masks went, only
    for permuted masks; score_change: mean absolute change of a place's score, 0..25.
    """

    probe: str
    n_candidates: Annotated[int, Field(ge=0)]
    before: Share | None
    auroc: Share | None
    change: float | None
    low: float | None
    high: float | None
    follows: Share | None = None
    score_change: Annotated[float, Field(ge=0)] | None


class CalibrationBin(Record):
    """Scores of about the same predicted uncertainty. expected_error: what the predicted std says |error| should be."""

    predicted_std: float
    expected_error: float
    mean_error: float
    n: int


class ReliabilityBin(Record):
    """Scores of about the same predicted mean, and what they truly were on average."""

    predicted: float
    true: float
    n: int


class LeftOut(Record):
    """The kind of defect that training never saw."""

    defect: str
    auroc: Share | None
    low: Share | None
    high: Share | None


class PhotoRow(Record):
    """One photograph, tested by a reward that never saw it."""

    photo: str
    n_pairs: int
    auroc: Share | None


class RewardMetrics(Document):
    """What the tests of a reward found, on candidates with one known defect each.

    n_pairs: (candidate, place) pairs with a label. localisation_auroc: macro over kinds of defects, all strengths.
    ranking_accuracy: share of pairs of candidates of one request put in their true order. calibration_error: mean
    distance of the mean |error| from what the predicted std says it should be, over bins, 0..25. reliability_error:
    the same of predicted and true means. coverage: share of the scores asked for that were given.
    """

    schema_name: ClassVar[str] = "reward-metrics"

    reward: str
    synthetic: bool
    n_pairs: int
    n_candidates: int
    n_sources: int
    n_defective: int
    localisation_auroc: Share | None
    localisation_auroc_by_defect: dict[str, Share | None]
    rivals: dict[str, Share | None]
    ranking_accuracy: Share | None
    n_ranked_pairs: int
    calibration_error: float | None
    reliability_error: float | None
    coverage: Share | None
    missing: dict[str, int]
    left_out: LeftOut | None = None
    intervals: dict[str, tuple[float, float]]
    table: tuple[AurocRow, ...]
    gaps: tuple[GapRow, ...]
    twins: tuple[TwinRow, ...]
    named: tuple[TwinRow, ...]
    probes: tuple[ProbeRow, ...]
    calibration: tuple[CalibrationBin, ...]
    reliability: tuple[ReliabilityBin, ...]
    photos: tuple[PhotoRow, ...] = ()
    bootstrap_samples: int
    unmade: dict[str, int] = {}


class ExamplePlace(Record):
    """One region or the background of a tested candidate. phi, true_phi: predicted and true, 0..25."""

    key: str
    label: str
    defective: bool | None
    phi: PredictedScore
    true_phi: MeanScore
    mask: CocoRle


class RewardExample(Document):
    """One tested candidate. margin: the least score among its sound places less that of the flawed one, 0..25.

    Above 0 the reward found the place. Pictures only for those to look at: paths relative to the file's folder.
    """

    schema_name: ClassVar[str] = "reward-example"

    key: str
    instruction: Instruction
    defect: str
    strength: float
    places: tuple[ExamplePlace, ...]
    margin: float | None
    source_picture: PicturePath | None = None
    edited_picture: PicturePath | None = None


class ScoreLine(Document):
    """One pair to score, as a user writes it: paths relative to the file's folder; without masks and boxes the regions
    are found by comparing the two images. Boxes in pixels of the source."""

    schema_name: ClassVar[str] = "score-line"

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,120}$")]
    source: Annotated[str, Field(min_length=1, max_length=1_000)]
    edited: Annotated[str, Field(min_length=1, max_length=1_000)]
    instruction: Instruction
    masks: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    boxes: Annotated[tuple[Box, ...], Field(max_length=64)] = ()
    labels: Annotated[tuple[Label, ...], Field(max_length=64)] = ()


class ScoredRegion(Record):
    """One region's predicted scores. origin: how the region came: `given` or `found`; reward: R_r in [0, 1]."""

    region: str
    label: str
    origin: Literal["given", "found"]
    box: Box | None
    area_px: int
    success: PredictedScore
    preserve: PredictedScore
    phi: MeanScore
    reward: Share | None


class ScoredPair(Document):
    """What a reward says of one pair: all scores 0..25 with their uncertainty, and R_r in [0, 1]."""

    schema_name: ClassVar[str] = "scored-pair"

    id: str
    rater: str
    instruction: Instruction
    width_px: int
    height_px: int
    regions: tuple[ScoredRegion, ...]
    background: PredictedScore
    background_reward: Share | None
    success: PredictedScore
    overedit: PredictedScore
    naturalness: PredictedScore
    artifacts: PredictedScore
    coverage: Share
