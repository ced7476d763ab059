"""Scores 0..25, higher is better, for every rater: human, model and oracle alike.

A missing score is `None`, a value of its own: the field must still be written, it is counted, and never imputed.

| symbol | here | meaning |
|---|---|---|
| phi_r | `phi` | min(success_r, preserve_r); the background's is its one score |
| AES | `aesthetics` | min(naturalness, artifacts) |
| R_r | `region_reward` | sqrt(phi_r * AES) / 25, in [0, 1] |

Source: the SFReward record of SpatialFlow-GRPO (arXiv 2606.26872).
"""

from datetime import datetime, timedelta
from math import sqrt
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from schemas.record import Document, Id, Record
from schemas.region import ObservedMask, RegionKey

SCORE_MAX = 25
#: A person's five levels 0..4 on the score scale.
LEVEL_SCORES = (0, 6, 13, 19, 25)
#: The names of the scores of a region, and of the image, in the order in which they are always listed.
REGION_SCORES = ("success", "preserve")
IMAGE_SCORES = ("background", "success", "overedit", "naturalness", "artifacts")
MISSING = None

Score = Annotated[int, Field(strict=True, ge=0, le=SCORE_MAX)] | None
MeanScore = Annotated[float, Field(ge=0, le=SCORE_MAX)] | None
#: How an annotator left a task; deleted: what was stored went from the server, or is of no use any more.
AnnotationState = Literal["submitted", "skipped", "cannot_judge", "deleted"]
Issue = Literal["missed", "wrong_attribute", "spill", "artefact", "identity_changed", "other"]


def _is_utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError(f"time {text} is not in UTC")
    return text


UtcTime = Annotated[str, Field(max_length=40), AfterValidator(_is_utc)]
SnapshotName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="a-z, 0-9, - and _; at most 64; it names a folder, too"),
]


class RegionScore(Record):
    """One rater's scores of one edit region; phi is their minimum."""

    region: RegionKey
    success: Score
    preserve: Score
    issues: tuple[Issue, ...] = ()


class CandidateScore(Document):
    """One rater's scores of one candidate. rater: `oracle:construction`, `model:...`, or a person's pseudonym."""

    schema_name: ClassVar[str] = "candidate-score"

    candidate: Id
    rater: Annotated[str, Field(min_length=1, max_length=200)]
    synthetic: bool
    regions: tuple[RegionScore, ...]
    background: Score
    success: Score
    overedit: Score
    naturalness: Score
    artifacts: Score


class Annotation(Document):
    """What one rater sent for one candidate, as validated after the pull. Times: UTC, ISO 8601."""

    schema_name: ClassVar[str] = "annotation"

    id: Annotated[str, Field(min_length=1, max_length=200)]
    task: Annotated[str, Field(min_length=1, max_length=200)]
    scores: CandidateScore
    masks: tuple[ObservedMask, ...] = ()
    state: AnnotationState
    comment: Annotated[str, Field(max_length=10_000)] = ""
    lead_time_s: Annotated[float, Field(ge=0)] | None
    created_at: UtcTime
    updated_at: UtcTime

    @property
    def rater(self) -> str:
        """Who made it: the rater of its scores."""
        return self.scores.rater


class ScoreSummary(Record):
    """One score over raters.

    mean: robust mean, None where nobody answered. spread: standard deviation of the answers, None for fewer than two.
    n_raters: how many answered; n_missing: how many were asked and did not.
    """

    mean: MeanScore
    spread: Annotated[float, Field(ge=0)] | None
    n_raters: Annotated[int, Field(ge=0)]
    n_missing: Annotated[int, Field(ge=0)] = 0


class RegionConsensus(Record):
    """The consensus on one region; agreement: Krippendorff's ordinal alpha where it can be computed."""

    region: RegionKey
    success: ScoreSummary
    preserve: ScoreSummary
    issues: tuple[Issue, ...] = ()
    agreement: Annotated[float, Field(le=1)] | None = None


class Consensus(Document):
    """What all raters of one candidate say together, a pure function of one named snapshot of the annotations."""

    schema_name: ClassVar[str] = "consensus"

    candidate: Id
    snapshot: SnapshotName
    method: str
    synthetic: bool
    regions: tuple[RegionConsensus, ...]
    background: ScoreSummary
    success: ScoreSummary
    overedit: ScoreSummary
    naturalness: ScoreSummary
    artifacts: ScoreSummary
    masks: tuple[ObservedMask, ...] = ()


def minimum(first: float | None, second: float | None) -> float | None:
    """min of two scores; missing where either is."""
    return None if first is None or second is None else min(first, second)


def phi(score: RegionScore) -> float | None:
    """phi_r = min(success_r, preserve_r), 0..25 or missing."""
    return minimum(score.success, score.preserve)


def aesthetics(score: CandidateScore) -> float | None:
    """AES = min(naturalness, artifacts), 0..25 or missing."""
    return minimum(score.naturalness, score.artifacts)


def region_reward(phi_0_25: float | None, aesthetics_0_25: float | None) -> float | None:
    """R_r = sqrt(phi_r * AES) / 25, in [0, 1]; missing where either is."""
    if phi_0_25 is None or aesthetics_0_25 is None:
        return None
    return sqrt(phi_0_25 * aesthetics_0_25) / SCORE_MAX
