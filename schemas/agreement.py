"""How far raters agree: the file `<run>/consensus/<snapshot>/agreement.json`.

| figure | what it is |
|---|---|
| alpha | Krippendorff's ordinal alpha over all raters and answers, missing ones left out |
| icc | ICC(A,1): one rater's absolute agreement, two-way random, on the largest complete block of answers |
| kappa | Cohen's kappa with quadratic weights, mean over pairs of raters by the questions that both answered |

All three on the levels 0..4: 1 is perfect agreement, 0 what chance would give, below 0 worse than chance. A figure that
cannot be computed has no value and a reason, never a made-up number.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.record import Document, Record
from schemas.score import SnapshotName

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
#: One kind of question: of a region or of the whole image.
Dimension = Literal[
    "region.success",
    "region.preserve",
    "image.background",
    "image.success",
    "image.overedit",
    "image.naturalness",
    "image.artifacts",
]


class Figure(Record):
    """A figure with its 95 % bootstrap interval. reason: why there is no value, or no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _absent_with_a_reason(self) -> "Figure":
        if self.value is None and not self.reason:
            raise ValueError("a figure without a value needs a reason")
        return self


class DimensionAgreement(Record):
    """Agreement on one kind of question. n_questions: those that at least two raters answered."""

    dimension: Dimension
    n_questions: Count
    n_answers: Count
    n_raters: Count
    alpha: Figure
    icc: Figure
    icc_questions: Count
    icc_raters: Count
    kappa: Figure
    kappa_pairs: Count


class IssueAgreement(Record):
    """Agreement on whether an issue is there: Krippendorff's nominal alpha. n_named: how often raters named it."""

    issue: str
    n_named: Count
    n_regions: Count
    alpha: Figure


class RaterSummary(Record):
    """One rater beside the panel. Points of 25.

    bias: what the rater adds to every score; harshness: above 1 takes more off for every flaw; noise: how far answers
    scatter; each with its standard error. random_share: share of answers that have nothing to do with the image.
    weight: 1, less where answers are another rater's, see `copies`. None without a rater model, see `reason`.
    """

    rater: str
    n_annotations: Count
    n_answers: Count
    n_missing: Count
    n_not_judged: Count
    bias: float | None = None
    bias_error: Annotated[float, Field(ge=0)] | None = None
    harshness: Annotated[float, Field(ge=0)] | None = None
    harshness_error: Annotated[float, Field(ge=0)] | None = None
    noise: Annotated[float, Field(ge=0)] | None = None
    random_share: Share | None = None
    weight: Share | None = None


class CopiedAnswers(Record):
    """Two raters who say the same where one of them is off the others. same: that share of `n_off` questions."""

    first: str
    second: str
    same: Share
    n_off: Count


class GoldSummary(Record):
    """One rater on questions with known answers. Points of 25; error: answer less truth.

    exact, near: share of answers on the right level, and at most one beside it. drift: how far the error moved from
    the first gold answer to the last. random: whether a sequential test took the answers for random; found_after: how
    many gold answers that took; evidence: largest log likelihood ratio, above `threshold` is random.
    """

    rater: str
    n_answers: Count
    exact: Share | None
    near: Share | None
    error: Figure
    drift: Figure
    random: bool
    found_after: Count | None
    evidence: float
    threshold: float


class Agreement(Document):
    """Agreement of all raters of one snapshot. n_used: the candidates that the figures are from, see docs/agreement.md.

    method: how scores were put together. mask_iou: mean IoU between raters on the same region. bootstrap: what was
    drawn again for the intervals, and how often. raters_reason: why there is no rater model.
    """

    schema_name: ClassVar[str] = "agreement"

    snapshot: SnapshotName
    method: Annotated[str, Field(min_length=1, max_length=80)]
    synthetic: bool
    n_annotations: Count
    n_candidates: Count
    n_used: Count
    n_not_judged: Count
    bootstrap: Literal["candidates", "sources"]
    n_resamples: Count
    dimensions: tuple[DimensionAgreement, ...]
    issues: tuple[IssueAgreement, ...]
    mask_iou: Figure
    n_mask_pairs: Count
    raters: tuple[RaterSummary, ...]
    raters_reason: str = ""
    copies: tuple[CopiedAnswers, ...] = ()
    gold: tuple[GoldSummary, ...] = ()
