"""A reward against scores that are known: order of candidates, calibration of means and of uncertainty."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import pi, sqrt

import numpy as np

from runtime.bootstrap import Estimate, Floats, Ints, estimate, weighted_means
from schemas.reward import BACKGROUND, CalibrationBin, ReliabilityBin
from schemas.score import SCORE_MAX, CandidateScore, aesthetics, region_reward
from training.evaluation.localisation_cases import DefectCase
from training.predictions import every_score, mean_reward
from training.reward_protocol import Prediction, RewardQuery

#: Candidates whose true mean rewards lie nearer than this have no order to find.
LEAST_APART = 0.02
BINS = 10
#: E|x| of a normal deviate with standard deviation 1.
MEAN_ABSOLUTE = sqrt(2 / pi)


def ranking(
    cases: Sequence[DefectCase],
    flawed: Sequence[Prediction],
    twins: Sequence[Prediction],
    sources: Ints,
    weights: Floats,
) -> tuple[Estimate, int]:
    """(accuracy of ordering two candidates of a request by mean reward, number of such pairs).

    The candidates of a request are its cases and their clean twin. Ties are wrong; a pair with a missing score is left
    out.
    """
    groups: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        groups.setdefault(case.request.id, []).append(number)
    right: list[float] = []
    source: list[int] = []
    for numbers in groups.values():
        first = cases[numbers[0]]
        places = first.true_phi
        candidates = [
            (_true_reward(cases[n].truth, cases[n].true_phi), mean_reward(flawed[n], places)) for n in numbers
        ]
        candidates.append((1.0, mean_reward(twins[numbers[0]], places)))
        for found in _orders(candidates):
            right.append(found)
            source.append(int(sources[numbers[0]]))
    figures = weighted_means(np.array(right, dtype=np.float64), weights[:, np.array(source, dtype=np.int64)])
    return estimate(figures), len(right)


def _orders(candidates: Sequence[tuple[float, float | None]]) -> Iterator[float]:
    for (true_a, found_a), (true_b, found_b) in combinations(candidates, 2):
        if found_a is not None and found_b is not None and abs(true_a - true_b) >= LEAST_APART:
            yield float((found_a - found_b) * (true_a - true_b) > 0)


def _true_reward(truth: CandidateScore, true_phi: Mapping[str, float | None]) -> float:
    rewards = [region_reward(points, aesthetics(truth)) for points in true_phi.values()]
    return float(np.mean([reward for reward in rewards if reward is not None]))


def truths(case: DefectCase) -> dict[tuple[str, str], float | None]:
    """(dimension, place) -> score by construction, as `every_score` has them."""
    truth = case.truth
    found: dict[tuple[str, str], float | None] = {("background", BACKGROUND): truth.background}
    for region in truth.regions:
        found["success", region.region], found["preserve", region.region] = region.success, region.preserve
    whole = {"success": truth.success, "overedit": truth.overedit}
    whole |= {"naturalness": truth.naturalness, "artifacts": truth.artifacts}
    return found | {(name, ""): score for name, score in whole.items()}


def scores_beside_truth(
    cases: Sequence[DefectCase], flawed: Sequence[Prediction], twins: Sequence[Prediction]
) -> Floats:
    """(N, 3): predicted mean, predicted std (NaN where unknown) and true score, of every score that was given.

    Both the flawed candidates and, once for each request, their clean twins, whose scores are all 25.
    """
    rows: list[tuple[float, float, float]] = []
    for case, prediction in zip(cases, flawed, strict=True):
        rows += _beside(prediction, case.query, truths(case))
    for case, prediction in {case.request.id: (case, twin) for case, twin in zip(cases, twins, strict=True)}.values():
        rows += _beside(prediction, case.twin, dict.fromkeys(truths(case), float(SCORE_MAX)))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _beside(
    prediction: Prediction, query: RewardQuery, true: Mapping[tuple[str, str], float | None]
) -> Iterator[tuple[float, float, float]]:
    for key, score in every_score(prediction, query).items():
        wanted = true.get(key)
        if score.mean is not None and wanted is not None:
            yield score.mean, np.nan if score.std is None else score.std, wanted


def calibration(scores: Floats) -> tuple[float | None, tuple[CalibrationBin, ...]]:
    """(mean distance of |error| from what the predicted std says, its bins of equal count); None without any std."""
    known = scores[~np.isnan(scores[:, 1])]
    bins = []
    for rows in _equal_bins(known, by=1):
        std = float(rows[:, 1].mean())
        error = float(np.abs(rows[:, 0] - rows[:, 2]).mean())
        bins.append(
            CalibrationBin(predicted_std=std, expected_error=std * MEAN_ABSOLUTE, mean_error=error, n=len(rows))
        )
    if not bins:
        return None, ()
    distances = [abs(one.mean_error - one.expected_error) for one in bins]
    return float(np.average(distances, weights=[one.n for one in bins])), tuple(bins)


def reliability(scores: Floats) -> tuple[float | None, tuple[ReliabilityBin, ...]]:
    """(mean distance of predicted from true means, its bins of equal count); None without a score."""
    bins = [
        ReliabilityBin(predicted=float(rows[:, 0].mean()), true=float(rows[:, 2].mean()), n=len(rows))
        for rows in _equal_bins(scores, by=0)
    ]
    if not bins:
        return None, ()
    return float(np.average([abs(one.predicted - one.true) for one in bins], weights=[one.n for one in bins])), tuple(
        bins
    )


def _equal_bins(scores: Floats, by: int) -> list[Floats]:
    if not len(scores):
        return []
    order = np.argsort(scores[:, by], kind="stable")
    return [scores[rows] for rows in np.array_split(order, min(BINS, len(order)))]
