"""AUROC and means with bootstrap intervals over sources, all resamples at once.

A resample is a weight for every source: how often it was drawn. Row 0 of every array of resamples is the data as it is,
so the point estimate and its interval come from the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.record import short_hash

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LOW_PERCENT, HIGH_PERCENT = 2.5, 97.5


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


def resamples(n_sources: int, samples: int, seed: int, stream: str = "bootstrap") -> Floats:
    """Weights (1 + samples, n_sources): ones, then how often each source is drawn with replacement.

    stream: names the sequence of random numbers; another one draws independently of it.
    """
    rng = np.random.default_rng(int(short_hash(stream, seed, n_sources, samples), 16))
    drawn = rng.multinomial(n_sources, np.full(n_sources, 1 / max(1, n_sources)), size=samples)
    return np.concatenate([np.ones((1, n_sources)), drawn.astype(np.float64).reshape(samples, n_sources)])


def group_index(groups: Sequence[str]) -> Ints:
    """The index (N,) of the group of each of N things, such as its source, in the order of their first appearance."""
    order = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    return np.array([order[name] for name in groups], dtype=np.int64)


def shares_above(defective: Floats, sound: Floats, sound_weights: Floats) -> Floats:
    """For each defective score the share of the sound scores above it, ties counted half: (B, len(defective)).

    defective, sound: scores, no NaN; sound_weights: (B, len(sound)). NaN in a resample without a sound one. The
    weighted mean of the shares over defective scores is the AUROC of "low means defective".
    """
    order = np.argsort(sound, kind="stable")
    ranked = sound[order]
    below = np.concatenate([np.zeros((len(sound_weights), 1)), np.cumsum(sound_weights[:, order], axis=1)], axis=1)
    first, last = np.searchsorted(ranked, defective, "left"), np.searchsorted(ranked, defective, "right")
    total = below[:, -1:]
    beaten = total - 0.5 * (below[:, first] + below[:, last])
    return _divided(beaten, total)


def weighted_means(values: Floats, weights: Floats) -> Floats:
    """Means (B,) of `values` (B, N) or (N,) by `weights` (B, N); NaN values are left out, NaN where nothing is left."""
    known = np.broadcast_to(~np.isnan(values), weights.shape)
    total = (weights * known).sum(axis=1)
    summed = (weights * np.where(known, values, 0.0)).sum(axis=1)
    return _divided(summed, total)


def _divided(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where `below` is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def mean_over(rows: list[Floats]) -> Floats:
    """The mean (B,) of several figures (B,) each, those without a value left out; NaN where none has one."""
    if not rows:
        return np.full(1, np.nan)
    stacked = np.stack(rows, axis=1)
    return weighted_means(stacked, np.ones(stacked.shape))


def estimate(figures: Floats) -> Estimate:
    """Row 0 with the percentiles of the others; None for what is NaN."""
    drawn = figures[1:][~np.isnan(figures[1:])]
    value = None if np.isnan(figures[0]) else float(figures[0])
    if value is None or not len(drawn):
        return Estimate(value, None, None)
    low, high = np.percentile(drawn, [LOW_PERCENT, HIGH_PERCENT])
    return Estimate(value, float(low), float(high))
