"""The Protocol of a reward: the query that it gets and the prediction that it returns.

It is the same for the region network, a judge behind an API and an oracle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.images import ImageU8
from runtime.masks import MaskBool


@dataclass(frozen=True)
class RewardQuery:
    """One edited image to score.

    source, edited: HWC uint8 RGB of one size; masks: region key -> (H, W) bool, in the edited frame.
    """

    source: ImageU8
    edited: ImageU8
    instruction: str
    masks: Mapping[str, MaskBool]


@dataclass(frozen=True)
class Predicted:
    """One score. mean: 0..25, or None where it is missing; std: how unsure, same unit, None where unknown."""

    mean: float | None
    std: float | None = None


@dataclass(frozen=True)
class RegionPrediction:
    """The two scores of one edit region."""

    success: Predicted
    preserve: Predicted


@dataclass(frozen=True)
class Prediction:
    """All scores of one edited image, as in `schemas.score.CandidateScore`; regions by key."""

    regions: Mapping[str, RegionPrediction]
    background: Predicted
    success: Predicted
    overedit: Predicted
    naturalness: Predicted
    artifacts: Predicted


class Reward(Protocol):
    """Scores edited images. name, revision: what stands as the rater of its scores."""

    name: str
    revision: str

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        """One prediction per query, in order; what cannot be scored is missing, never imputed."""
        ...
