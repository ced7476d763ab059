"""Where an exported row's scores come from: what one rater says, or the consensus of several.

| `--scores` | the row's scores |
|---|---|
| `rows` | those of the first rater that the run's rows carry |
| `oracle` | those of the oracle that the run's rows carry |
| `consensus:SNAPSHOT` | robust means over the raters of that snapshot, with their spreads |

A candidate that has none there gets missing scores, never another source's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from schemas.dataset_row import ImageScoreName, RegionScoreName, ScoreSpread
from schemas.errors import BadInput
from schemas.sample import Sample
from schemas.score import CandidateScore, Consensus, ScoreSummary, SnapshotName, minimum

ROWS, ORACLE, CONSENSUS = "rows", "oracle", "consensus:"
_NAME: TypeAdapter[str] = TypeAdapter(SnapshotName)


@dataclass(frozen=True)
class RegionScores:
    """Scores of one region, 0..25 or missing."""

    success: float | None
    preserve: float | None
    spreads: Mapping[RegionScoreName, ScoreSpread] = field(default_factory=dict)

    @property
    def phi(self) -> float | None:
        """min(success, preserve)."""
        return minimum(self.success, self.preserve)


@dataclass(frozen=True)
class RowScores:
    """All scores of one row, 0..25 or missing; regions by key. rater: None where nobody scored it."""

    rater: str | None = None
    synthetic: bool = False
    regions: Mapping[str, RegionScores] = field(default_factory=dict)
    background: float | None = None
    success: float | None = None
    overedit: float | None = None
    naturalness: float | None = None
    artifacts: float | None = None
    spreads: Mapping[ImageScoreName, ScoreSpread] = field(default_factory=dict)

    @property
    def aesthetics(self) -> float | None:
        """AES = min(naturalness, artifacts)."""
        return minimum(self.naturalness, self.artifacts)


def snapshot_of(scores: str) -> str | None:
    """The snapshot that a `--scores` value names, None for `rows` and `oracle`. Raises: BadInput for anything else."""
    if scores in (ROWS, ORACLE):
        return None
    if scores.startswith(CONSENSUS):
        try:
            return _NAME.validate_python(scores.removeprefix(CONSENSUS))
        except ValidationError:
            pass
    raise BadInput(f"scores {scores[:80]!r}", "is no source of scores", "give rows, oracle or consensus:SNAPSHOT")


def row_scores(sample: Sample, scores: str, consensus: Mapping[str, Consensus]) -> RowScores:
    """The scores of a row. consensus: by candidate, of the snapshot that `scores` names; unused without one."""
    if snapshot_of(scores):
        found = consensus.get(sample.candidate.id) if sample.candidate else None
        return _of_consensus(found) if found else RowScores()
    raters = [rater for rater in sample.scores if scores == ROWS or rater.rater.startswith(f"{ORACLE}:")]
    return _of_rater(raters[0]) if raters else RowScores()


def _of_rater(score: CandidateScore) -> RowScores:
    return RowScores(
        rater=score.rater,
        synthetic=score.synthetic,
        regions={region.region: RegionScores(region.success, region.preserve) for region in score.regions},
        background=score.background,
        success=score.success,
        overedit=score.overedit,
        naturalness=score.naturalness,
        artifacts=score.artifacts,
    )


def _of_consensus(found: Consensus) -> RowScores:
    regions = {
        region.region: RegionScores(
            region.success.mean,
            region.preserve.mean,
            {"success": _spread(region.success), "preserve": _spread(region.preserve)},
        )
        for region in found.regions
    }
    return RowScores(
        rater=f"{CONSENSUS}{found.snapshot}",
        synthetic=found.synthetic,
        regions=regions,
        background=found.background.mean,
        success=found.success.mean,
        overedit=found.overedit.mean,
        naturalness=found.naturalness.mean,
        artifacts=found.artifacts.mean,
        spreads={
            "background": _spread(found.background),
            "success": _spread(found.success),
            "overedit": _spread(found.overedit),
            "naturalness": _spread(found.naturalness),
            "artifacts": _spread(found.artifacts),
        },
    )


def _spread(summary: ScoreSummary) -> ScoreSpread:
    return ScoreSpread(spread=summary.spread, n_raters=summary.n_raters, n_missing=summary.n_missing)
