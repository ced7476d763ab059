"""The `pixel-difference` rival: how much the pixels inside a mask differ from the source. It reads no instruction.

Two ways round: by default more change scores lower, as for a reward that only wants things kept; with `wants_change`
more change scores higher.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.masks import MaskBool
from schemas.score import SCORE_MAX
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery

LEVELS = 255.0


class PixelDifference:
    """Scores a place by its mean absolute difference from the source, 0..1 of the full range, on 25..0."""

    revision = "1"

    def __init__(self, *, wants_change: bool = False) -> None:
        self.name = "pixel-change" if wants_change else "pixel-difference"
        self._wants_change = wants_change

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        """One prediction per query; an empty place is missing."""
        return [self._score(query) for query in queries]

    def _score(self, query: RewardQuery) -> Prediction:
        difference = np.abs(query.edited.astype(np.float32) - query.source.astype(np.float32)).mean(axis=2)
        outside = ~np.logical_or.reduce([np.zeros(difference.shape, dtype=np.bool_), *query.masks.values()])
        regions = {key: self._points(difference, mask) for key, mask in query.masks.items()}
        whole = self._points(difference, np.ones_like(outside))
        return Prediction(
            regions={key: RegionPrediction(success=score, preserve=score) for key, score in regions.items()},
            background=self._points(difference, outside),
            success=whole,
            overedit=whole,
            naturalness=whole,
            artifacts=whole,
        )

    def _points(self, difference: NDArray[np.float32], mask: MaskBool) -> Predicted:
        if not mask.any():
            return Predicted(None)
        share = float(difference[mask].mean()) / LEVELS
        return Predicted(SCORE_MAX * (share if self._wants_change else 1 - share))
