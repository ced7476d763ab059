"""Coefficients of agreement with bootstrap intervals: Krippendorff's alpha, an intraclass correlation, Cohen's kappa.

Alpha is krippendorff's and kappa scikit-learn's; the intraclass correlation is computed here and tests hold it against
pingouin, which is too slow. Resamples are weights (`runtime.bootstrap`), so a coefficient of all of them is a product
of matrices; tests hold these forms against the libraries. A figure that cannot be computed has no value and says why.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Literal

import numpy as np

from annotation.raters.answers import DIMENSIONS, N_LEVELS, Answers, Floats, Ints
from runtime.bootstrap import estimate
from schemas.agreement import Dimension, Figure

Metric = Literal["ordinal", "nominal"]
#: Of fewer questions an intraclass correlation or a kappa says nothing (pingouin refuses, too).
MIN_QUESTIONS = 5
#: Figures are rounded to this many decimals: far below their intervals, and the same on every machine.
DECIMALS = 6

ONE_RATER = "fewer than two raters answered the same question"
CONSTANT = "all answers are the same"
FEW = f"fewer than {MIN_QUESTIONS} questions that the same raters answered"


def alpha_figure(counts: Ints, cluster: Ints, weights: Floats, metric: Metric = "ordinal") -> Figure:
    """Krippendorff's alpha of (U, V) counts of levels. metric: `ordinal` or `nominal`."""
    import krippendorff

    pairable = counts.sum(axis=1) >= 2
    if not pairable.any():
        return Figure(value=None, reason=ONE_RATER)
    if (counts[pairable].sum(axis=0) > 0).sum() < 2:
        return Figure(value=None, reason=CONSTANT)
    value = float(krippendorff.alpha(value_counts=counts[pairable], level_of_measurement=metric))
    pairs = summed(coincidences(counts[pairable]), cluster[pairable], weights)
    return figure(value, alphas(pairs.reshape(len(weights), counts.shape[1], -1), metric), cluster[pairable])


def level_counts(levels: Floats, n_levels: int = N_LEVELS) -> Ints:
    """(U, R) levels, NaN for none -> (U, n_levels): how many raters gave each level."""
    return np.stack([(levels == level).sum(axis=1) for level in range(n_levels)], axis=1).astype(np.int64)


def coincidences(counts: Ints) -> Floats:
    """(U, V) counts -> (U, V * V): ordered pairs of answers by their levels, each question with the weight of its
    answers. Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011)."""
    square = (counts[:, :, None] * counts[:, None, :]).astype(np.float64)
    each = np.arange(counts.shape[1])
    square[:, each, each] -= counts
    shared: Floats = square / np.maximum(counts.sum(axis=1) - 1, 1)[:, None, None]
    return shared.reshape(len(counts), counts.shape[1] ** 2)


def level_distances(totals: Floats, metric: Metric = "ordinal") -> Floats:
    """Squared distances (B, V, V) between levels, where `totals` (B, V) is how often each stands in a pair.

    Ordinal: the answers from one level to the other, those on both ends counted half.
    """
    n_levels = totals.shape[1]
    if metric == "nominal":
        return np.broadcast_to(1 - np.eye(n_levels), (len(totals), n_levels, n_levels))
    middle = np.cumsum(totals, axis=1) - totals / 2
    return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)


def alphas(pairs: Floats, metric: Metric = "ordinal") -> Floats:
    """Alpha (B,) of coincidence matrices (B, V, V); NaN where all answers are the same."""
    totals = pairs.sum(axis=2)
    distances = level_distances(totals, metric)
    observed = (pairs * distances).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distances).sum(axis=(1, 2))
    return 1 - divided(observed * (totals.sum(axis=1) - 1), expected)


def alpha_parts(answers: Answers) -> dict[Dimension, Floats]:
    """By kind of question, squared distances (5, 5) between levels over their mean by chance: alpha is 1 less their
    mean over pairs of answers. Kinds whose answers are all the same are left out."""
    found = {}
    for dimension in DIMENSIONS:
        counts = level_counts(answers.matrix(dimension)[0])
        totals = coincidences(counts[counts.sum(axis=1) >= 2]).sum(axis=0).reshape(1, N_LEVELS, N_LEVELS).sum(axis=2)
        distances = level_distances(totals)
        n = totals.sum()
        expected = float((totals[:, :, None] * totals[:, None, :] * distances).sum())
        if expected > 0:
            found[dimension] = np.asarray(distances[0] * n * (n - 1) / expected)
    return found


def complete_block(levels: Floats) -> tuple[Ints, Ints]:
    """(questions, raters) of the complete block with the most answers: where the n busiest raters all answered.

    An intraclass correlation needs every rater on every question. Of equal blocks the one with more raters.
    """
    there = ~np.isnan(levels)
    busiest = np.argsort(-there.sum(axis=0), kind="stable")
    best: tuple[Ints, Ints] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    for n in range(2, levels.shape[1] + 1):
        chosen = np.sort(busiest[:n])
        rows = np.flatnonzero(there[:, chosen].all(axis=1))
        if len(rows) and len(rows) * n >= len(best[0]) * len(best[1]):
            best = rows, chosen
    return best


def icc_figure(levels: Floats, cluster: Ints, weights: Floats) -> Figure:
    """ICC(A,1) of a complete block (U, R) of levels."""
    if min(levels.shape) < 2:
        return Figure(value=None, reason=ONE_RATER)
    if len(levels) < MIN_QUESTIONS:
        return Figure(value=None, reason=FEW)
    if np.ptp(levels) == 0:
        return Figure(value=None, reason=CONSTANT)
    mean = levels.mean(axis=1)
    moments = np.column_stack([np.ones(len(levels)), mean, mean**2, (levels**2).sum(axis=1), levels])
    found = iccs(summed(moments, cluster, weights), levels.shape[1])
    return figure(float(found[0]), found, cluster)


def iccs(sums: Floats, n_raters: int) -> Floats:
    """ICC(A,1) (B,) from weighted sums (B, 4 + R): of 1, row mean, its square, all squares, each rater's levels.

    pingouin gives the same, and takes a minute and a half for 4,000 questions of five raters.
    Source: K. O. McGraw and S. P. Wong, Forming inferences about some intraclass correlation coefficients (1996).
    """
    n, mean_sum, square_sum, all_squares = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3]
    safe = np.maximum(n, 1)
    grand = mean_sum / safe
    between = n_raters * (square_sum - safe * grand**2)
    columns = safe * ((sums[:, 4:] / safe[:, None] - grand[:, None]) ** 2).sum(axis=1)
    total = all_squares - n_raters * safe * grand**2
    rows, raters = between / np.maximum(n - 1, 1), columns / (n_raters - 1)
    error = (total - between - columns) / (np.maximum(n - 1, 1) * (n_raters - 1))
    below = rows + (n_raters - 1) * error + n_raters * (raters - error) / safe
    return np.where((n > 1) & (total > 1e-9), divided(rows - error, below), np.nan)


def kappa_figure(levels: Floats, cluster: Ints, weights: Floats) -> tuple[Figure, int]:
    """The mean of quadratically weighted kappas over pairs of raters, weighted by shared questions; and how many pairs.

    A pair that shares fewer than `MIN_QUESTIONS`, or whose answers are all the same, is left out.
    """
    from sklearn.metrics import cohen_kappa_score

    values, shares, drawn = [], [], []
    few = constant = 0
    for x, y, rows in _pairs_of_raters(levels):
        few += 0 < len(rows) < MIN_QUESTIONS
        constant += len(rows) >= MIN_QUESTIONS and np.ptp(np.concatenate([x, y])) == 0
        if len(rows) < MIN_QUESTIONS or np.ptp(np.concatenate([x, y])) == 0:
            continue
        values.append(float(cohen_kappa_score(x, y, labels=range(N_LEVELS), weights="quadratic")))
        shares.append(len(rows))
        moments = np.column_stack([np.ones(len(rows)), x, y, x**2, y**2, (x - y) ** 2])
        drawn.append(kappas(summed(moments, cluster[rows], weights)))
    if not values:
        return Figure(value=None, reason=CONSTANT if constant else FEW if few else ONE_RATER), 0
    share = np.array(shares, dtype=np.float64)[:, None]
    known = ~np.isnan(drawn)
    means = divided((np.where(known, drawn, 0) * share).sum(axis=0), (known * share).sum(axis=0))
    return figure(float(np.average(values, weights=shares)), means, cluster), len(values)


def _pairs_of_raters(levels: Floats) -> Iterator[tuple[Floats, Floats, Ints]]:
    there = ~np.isnan(levels)
    for first, second in combinations(range(levels.shape[1]), 2):
        rows = np.flatnonzero(there[:, first] & there[:, second])
        yield levels[rows, first], levels[rows, second], rows


def kappas(sums: Floats) -> Floats:
    """Quadratic kappa (B,) of one pair from weighted sums (B, 6): of 1, x, y, x², y², (x - y)².

    1 less the mean squared distance over the one that chance would give: kappa's table is not needed for it.
    """
    n = np.maximum(sums[:, 0], 1)
    chance = (sums[:, 3] + sums[:, 4]) / n - 2 * sums[:, 1] * sums[:, 2] / n**2
    return 1 - divided(sums[:, 5] / n, np.where(chance > 1e-9, chance, 0))


def figure(value: float, drawn: Floats, cluster: Ints) -> Figure:
    """A value with the percentiles of its resamples (1 + samples,), of which the first is the data as it is."""
    found = estimate(np.concatenate([[value], drawn[1:]]))
    if len(np.unique(cluster)) < 2 or found.low is None or found.high is None:
        return Figure(value=round(value, DECIMALS), reason="one candidate or source has no interval")
    return Figure(value=round(value, DECIMALS), low=round(found.low, DECIMALS), high=round(found.high, DECIMALS))


def summed(rows: Floats, cluster: Ints, weights: Floats) -> Floats:
    """Weighted sums (B, F) of rows (U, F), where a row weighs what its cluster does; weights: (B, K)."""
    used, place = np.unique(cluster, return_inverse=True)
    by_cluster = np.zeros((len(used), rows.shape[1]))
    np.add.at(by_cluster, place, rows)
    return np.asarray((weights if len(used) == weights.shape[1] else weights[:, used]) @ by_cluster)


def divided(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where `below` is 0."""
    return np.where(below != 0, above / np.where(below != 0, below, 1.0), np.nan)
