"""Figures of a benchmark with their 95 % intervals, from the resamples of `runtime.bootstrap`."""

from collections.abc import Sequence

import numpy as np

from runtime.bootstrap import Floats, estimate, mean_over, weighted_means
from schemas.edit_benchmarks import Interval


def interval_of(figures: Floats) -> Interval:
    """Row 0 of resampled figures (B,) with its interval."""
    found = estimate(figures)
    return Interval(value=found.value, low=found.low, high=found.high)


def mean_interval(values: Floats, weights: Floats) -> Interval:
    """The mean of `values` (N,), NaN left out, with its interval; weights: (B, N)."""
    return interval_of(weighted_means(values, weights))


def mean_over_kinds(kinds: Sequence[Floats]) -> Floats:
    """The mean (B,) over kinds, each (B,); NaN where one of them has no figure.

    Only row 0, the data as it is, decides: a resample that lacks a kind takes the mean of the others.
    """
    means = mean_over(list(kinds))
    if any(np.isnan(kind[0]) for kind in kinds):
        return np.full_like(means, np.nan)
    return means


def number(value: float | None) -> float:
    """`value`, NaN where it is missing."""
    return float("nan") if value is None else value
