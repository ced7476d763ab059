"""Rewards of known quality for the tests of the evaluation: an oracle, its reverse, a constant, a whole-image one."""

from collections.abc import Sequence
from dataclasses import replace

from training.evaluation.localisation_cases import DefectCase
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery

FULL = 25.0


class Known:
    """Answers with the scores by construction, found by the edited pixels and the source; `turned` upside down."""

    revision = "1"

    def __init__(self, cases: Sequence[DefectCase], *, turned: bool = False, std: float | None = None) -> None:
        self.name = "reversed oracle" if turned else "oracle"
        self._turned, self._std = turned, std
        self._cases = {case.query.edited.tobytes(): case for case in cases}

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        return [self._answer(query, self._cases.get(query.edited.tobytes())) for query in queries]

    def _answer(self, query: RewardQuery, case: DefectCase | None) -> Prediction:
        if case is None:
            return prediction(dict.fromkeys(query.masks, FULL), FULL, std=self._std)
        truth = case.truth
        points = {key: self._way(case.true_phi[key]) for key in query.masks}
        whole = [self._way(score) for score in (truth.success, truth.overedit, truth.naturalness, truth.artifacts)]
        answer = prediction(points, self._way(truth.background), whole, self._std)
        if self._turned:
            return answer
        own = {region.region: region for region in truth.regions}
        regions = {key: RegionPrediction(self._told(own[key].success), self._told(own[key].preserve)) for key in points}
        return replace(answer, regions=regions)

    def _told(self, score: float | None) -> Predicted:
        return Predicted(self._way(score), self._std)

    def _way(self, score: float | None) -> float:
        assert score is not None
        return FULL - score if self._turned else float(score)


class Constant:
    """The same score for everything."""

    name, revision = "constant", "1"

    def __init__(self, mean: float | None = 12.5, std: float | None = None) -> None:
        self._mean, self._std = mean, std

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        return [
            prediction(dict.fromkeys(query.masks, self._mean), self._mean, [self._mean] * 4, self._std)
            for query in queries
        ]


class WholeImage:
    """Sees that an image is bad, and says so of every place alike."""

    name, revision = "whole image", "1"

    def __init__(self, cases: Sequence[DefectCase]) -> None:
        self._worst = {
            case.query.edited.tobytes(): min(points for points in case.true_phi.values() if points is not None)
            for case in cases
        }

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        points = [self._worst.get(query.edited.tobytes(), FULL) for query in queries]
        return [prediction(dict.fromkeys(q.masks, p), p, [p] * 4) for q, p in zip(queries, points, strict=True)]


def prediction(
    regions: dict[str, float | None],
    background: float | None,
    whole: Sequence[float | None] = (FULL,) * 4,
    std: float | None = None,
) -> Prediction:
    """Scores as predictions, success and preserve of a region alike."""
    success, overedit, naturalness, artifacts = (Predicted(score, std) for score in whole)
    return Prediction(
        regions={
            key: RegionPrediction(success=Predicted(score, std), preserve=Predicted(score, std))
            for key, score in regions.items()
        },
        background=Predicted(background, std),
        success=success,
        overedit=overedit,
        naturalness=naturalness,
        artifacts=artifacts,
    )
