"""Calibration of a reward on scores that it was not trained on: its means, its variances, and how well both then fit.

Means go through `sigmoid(slope * logit + offset)`, which keeps their order; variances through one factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from schemas.score import SCORE_MAX

Floats = NDArray[np.float64]
_BINS = 10
#: Half-width of a 90 % interval of a normal distribution, in standard deviations.
_NINETY = 1.6449


@dataclass(frozen=True)
class Calibration:
    """What is done to one score's outputs. The default leaves them as they are."""

    slope: float = 1.0
    offset: float = 0.0
    variance_factor: float = 1.0

    def mean(self, logit: Floats) -> Floats:
        """Calibrated means as shares of the full score."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit + self.offset))))

    def std(self, log_variance: Floats) -> Floats:
        """Calibrated standard deviations as shares."""
        return np.asarray(np.sqrt(np.exp(log_variance) * self.variance_factor))


def fit(logit: Floats, log_variance: Floats, share: Floats) -> Calibration:
    """The calibration that fits the scores `share` (0..1, no NaN) best; the default where there are under 20."""
    if len(share) < 20:
        return Calibration()

    def cross_entropy(parameters: Floats) -> float:
        z = np.exp(parameters[0]) * logit + parameters[1]
        # a weak pull to 'unchanged', so that few scores do not move it far
        return float(np.mean(np.logaddexp(0, z) - share * z) + 0.002 * np.square(parameters).sum())

    found = minimize(cross_entropy, np.zeros(2), method="L-BFGS-B", bounds=[(-1.5, 1.5), (-3, 3)]).x
    slope, offset = float(np.exp(found[0])), float(found[1])
    error = np.square(share - Calibration(slope, offset).mean(logit))
    return Calibration(slope, offset, float(np.clip(np.mean(error / np.exp(log_variance)), 0.01, 100)))


def expected_calibration_error(mean: Floats, share: Floats) -> float | None:
    """How far mean predictions are from mean scores, in points, over ten equally filled bins; None without scores."""
    if not len(share):
        return None
    bins = [part for part in np.array_split(np.argsort(mean, kind="stable"), _BINS) if len(part)]
    gaps = [len(part) * abs(float(mean[part].mean() - share[part].mean())) for part in bins]
    return SCORE_MAX * sum(gaps) / len(share)


def coverage(mean: Floats, std: Floats, share: Floats) -> float | None:
    """The share of scores inside the 90 % intervals; None without scores."""
    return float(np.mean(np.abs(share - mean) <= _NINETY * std)) if len(share) else None


def curve(mean: Floats, share: Floats) -> list[dict[str, float]]:
    """The calibration plot: per bin the mean prediction, the mean score (points) and the count."""
    bins = [part for part in np.array_split(np.argsort(mean, kind="stable"), _BINS) if len(part)]
    return [
        {
            "predicted": round(SCORE_MAX * float(mean[part].mean()), 3),
            "scored": round(SCORE_MAX * float(share[part].mean()), 3),
            "n": len(part),
        }
        for part in bins
    ]


def as_json(calibrations: Mapping[str, Calibration]) -> dict[str, list[float]]:
    """Calibrations by score, as the reward's JSON keeps them."""
    return {name: [c.slope, c.offset, c.variance_factor] for name, c in calibrations.items()}
