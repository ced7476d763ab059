"""How far raters agree, with bootstrap intervals: the figures of `schemas.agreement`, from what stands of a snapshot.

Alpha is krippendorff's and kappa scikit-learn's; the intraclass correlation is computed here and tests hold it against
pingouin, which is too slow. An interval is the 2.5th and 97.5th percentile over resamples of whole candidates, or of
whole sources where they are known, since answers on one image hang together. Resamples are weights, so a coefficient of
all of them is a product of matrices; tests hold these forms against the libraries. A figure that cannot be computed has
no value and says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from annotation.raters.answers import DIMENSIONS, IMAGE_SCORES, REGION_SCORES, Answers, Floats, Ints, table
from annotation.raters.masks import overlaps
from annotation.raters.matching import Group, match_regions
from annotation.raters.models import PanelModel
from schemas.agreement import (
    Agreement,
    Dimension,
    DimensionAgreement,
    Figure,
    GoldSummary,
    IssueAgreement,
    RaterSummary,
)
from schemas.record import short_hash
from schemas.score import LEVEL_SCORES, Annotation, Issue

Metric = Literal["ordinal", "nominal"]
N_LEVELS = len(LEVEL_SCORES)
RESAMPLES = 1_000
LOW_PERCENT, HIGH_PERCENT = 2.5, 97.5
#: Of fewer questions an intraclass correlation or a kappa says nothing (pingouin refuses, too).
MIN_QUESTIONS = 5
#: Figures are rounded to this many decimals: far below their intervals, and the same on every machine.
DECIMALS = 6

ONE_RATER = "fewer than two raters answered the same question"
CONSTANT = "all answers are the same"
FEW = f"fewer than {MIN_QUESTIONS} questions that the same raters answered"


def resamples(n_clusters: int, samples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Weights (1 + samples, n_clusters): ones, then how often each cluster is drawn with replacement; one at least."""
    rng = np.random.default_rng(int(short_hash("agreement", seed, n_clusters, samples), 16))
    drawn = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=samples)
    return np.concatenate([np.ones((1, n_clusters)), drawn.astype(np.float64).reshape(samples, n_clusters)])


def dimension_agreement(answers: Answers, dimension: Dimension, cluster: Ints, weights: Floats) -> DimensionAgreement:
    """All three coefficients on one kind of question. cluster: (candidates,) what is drawn again; weights: (B, K)."""
    levels, candidate = answers.matrix(dimension)
    shared = (~np.isnan(levels)).sum(axis=1) >= 2
    drawn = cluster[candidate]
    block = complete_block(levels)
    kappa, n_pairs = kappa_figure(levels, drawn, weights)
    return DimensionAgreement(
        dimension=dimension,
        n_questions=int(shared.sum()),
        n_answers=int((~np.isnan(levels)).sum()),
        n_raters=int((~np.isnan(levels)).any(axis=0).sum()),
        alpha=alpha_figure(level_counts(levels), drawn, weights),
        icc=icc_figure(levels[np.ix_(*block)], drawn[block[0]], weights),
        icc_questions=len(block[0]),
        icc_raters=len(block[1]),
        kappa=kappa,
        kappa_pairs=n_pairs,
    )


def level_counts(levels: Floats, n_levels: int = N_LEVELS) -> Ints:
    """(U, R) levels, NaN for none -> (U, n_levels): how many raters gave each level."""
    return np.stack([(levels == level).sum(axis=1) for level in range(n_levels)], axis=1).astype(np.int64)


def alpha_figure(counts: Ints, cluster: Ints, weights: Floats, metric: Metric = "ordinal") -> Figure:
    """Krippendorff's alpha of (U, V) counts of levels. metric: `ordinal` or `nominal`."""
    import krippendorff

    pairable = counts.sum(axis=1) >= 2
    if not pairable.any():
        return Figure(value=None, reason=ONE_RATER)
    if (counts[pairable].sum(axis=0) > 0).sum() < 2:
        return Figure(value=None, reason=CONSTANT)
    value = float(krippendorff.alpha(value_counts=counts[pairable], level_of_measurement=metric))
    pairs = _summed(coincidences(counts[pairable]), cluster[pairable], weights)
    return figure(value, alphas(pairs.reshape(len(weights), counts.shape[1], -1), metric), cluster[pairable])


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
    return 1 - _divided(observed * (totals.sum(axis=1) - 1), expected)


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
    found = iccs(_summed(moments, cluster, weights), levels.shape[1])
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
    return np.where((n > 1) & (total > 1e-9), _divided(rows - error, below), np.nan)


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
        drawn.append(kappas(_summed(moments, cluster[rows], weights)))
    if not values:
        return Figure(value=None, reason=CONSTANT if constant else FEW if few else ONE_RATER), 0
    share = np.array(shares, dtype=np.float64)[:, None]
    known = ~np.isnan(drawn)
    means = _divided((np.where(known, drawn, 0) * share).sum(axis=0), (known * share).sum(axis=0))
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
    return 1 - _divided(sums[:, 5] / n, np.where(chance > 1e-9, chance, 0))


def mask_figure(
    groups: Mapping[str, Sequence[Group]], cluster: Mapping[str, int], weights: Floats
) -> tuple[Figure, int]:
    """Mean IoU of every two raters' masks of one region, over all regions; and how many pairs. groups: by candidate."""
    rows = []
    for candidate in sorted(groups):
        for group in groups[candidate]:
            masks = [group.masks[rater].mask for rater in sorted(group.masks)]
            found = overlaps(masks, masks)[np.triu_indices(len(masks), 1)]
            rows += [(cluster[candidate], iou) for iou in found]
    if not rows:
        return Figure(value=None, reason="no region has masks of two raters"), 0
    table = np.array(rows, dtype=np.float64)
    where = table[:, 0].astype(np.int64)
    sums = _summed(np.column_stack([np.ones(len(table)), table[:, 1]]), where, weights)
    means = _divided(sums[:, 1], sums[:, 0])
    return figure(float(means[0]), means, where), len(table)


def issue_agreement(
    groups: Mapping[str, Sequence[Group]], cluster: Mapping[str, int], weights: Floats
) -> list[IssueAgreement]:
    """Nominal alpha for each issue: is it there or not, by the raters who scored the region."""
    seen = [
        (cluster[candidate], [set(score.issues) for score in group.scores.values()])
        for candidate in sorted(groups)
        for group in groups[candidate]
        if group.scores
    ]
    where = np.array([place for place, _ in seen], dtype=np.int64)
    found = []
    for issue in get_args(Issue):
        named = np.array([sum(issue in issues for issues in raters) for _, raters in seen], dtype=np.int64)
        asked = np.array([len(raters) for _, raters in seen], dtype=np.int64)
        alpha = alpha_figure(np.column_stack([asked - named, named]), where, weights, "nominal")
        found.append(IssueAgreement(issue=issue, n_named=int(named.sum()), n_regions=len(seen), alpha=alpha))
    return found


def measure_agreement(
    standing: Mapping[str, Sequence[Annotation]],
    snapshot: str,
    method: str,
    model: PanelModel,
    *,
    sources: Mapping[str, str] | None = None,
    n_candidates: int | None = None,
    gold: Sequence[GoldSummary] = (),
    samples: int = RESAMPLES,
) -> Agreement:
    """All figures of a snapshot. standing: by candidate what `annotation.raters.consensus.current` gives, one at least.

    model: of the same annotations. sources: by candidate, its source, to draw sources again and not candidates.
    n_candidates: how many the snapshot has, where `standing` is a part of it.
    """
    answers = table(standing)
    groups = {candidate: match_regions(annotations) for candidate, annotations in standing.items()}
    names = [sources[candidate] if sources else candidate for candidate in answers.candidates]
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    cluster = np.array([places[name] for name in names], dtype=np.int64)
    by_candidate = {candidate: int(place) for candidate, place in zip(answers.candidates, cluster, strict=True)}
    weights = resamples(max(1, len(places)), samples)
    mask_iou, n_pairs = mask_figure(groups, by_candidate, weights)
    rows = [annotation for annotations in standing.values() for annotation in annotations]
    return Agreement(
        snapshot=snapshot,
        method=method,
        synthetic=any(annotation.scores.synthetic for annotation in rows),
        n_annotations=len(rows),
        n_candidates=len(standing) if n_candidates is None else n_candidates,
        n_used=len(standing),
        n_not_judged=sum(annotation.state != "submitted" for annotation in rows),
        bootstrap="sources" if sources else "candidates",
        n_resamples=samples,
        dimensions=tuple(dimension_agreement(answers, dimension, cluster, weights) for dimension in DIMENSIONS),
        issues=tuple(issue_agreement(groups, by_candidate, weights)),
        mask_iou=mask_iou,
        n_mask_pairs=n_pairs,
        raters=tuple(_rater_summary(rater, rows, model) for rater in sorted({row.scores.rater for row in rows})),
        raters_reason=model.reason,
        copies=model.scores.copies if model.scores else (),
        gold=tuple(gold),
    )


def _rater_summary(rater: str, rows: Sequence[Annotation], model: PanelModel) -> RaterSummary:
    own = [row for row in rows if row.scores.rater == rater]
    submitted = [row.scores for row in own if row.state == "submitted"]
    said = [getattr(scores, name) for scores in submitted for name in IMAGE_SCORES]
    said += [getattr(region, name) for scores in submitted for region in scores.regions for name in REGION_SCORES]
    missing = sum(score is None for score in said)
    found = model.scores.raters.get(rater) if model.scores else None
    summary = RaterSummary(
        rater=rater,
        n_annotations=len(own),
        n_answers=len(said) - missing,
        n_missing=missing,
        n_not_judged=len(own) - len(submitted),
    )
    if found is None:
        return summary
    figures = {name: round(value, DECIMALS) for name, value in vars(found).items()}
    return summary.model_copy(update=figures)


def figure(value: float, drawn: Floats, cluster: Ints) -> Figure:
    """A value with the percentiles of its resamples (1 + samples,), of which the first is the data as it is."""
    known = drawn[1:][~np.isnan(drawn[1:])]
    if len(np.unique(cluster)) < 2 or not len(known):
        return Figure(value=round(value, DECIMALS), reason="one candidate or source has no interval")
    low, high = np.percentile(known, [LOW_PERCENT, HIGH_PERCENT])
    return Figure(value=round(value, DECIMALS), low=round(float(low), DECIMALS), high=round(float(high), DECIMALS))


def _summed(rows: Floats, cluster: Ints, weights: Floats) -> Floats:
    """Weighted sums (B, F) of rows (U, F), where a row weighs what its cluster does; weights: (B, K)."""
    used, place = np.unique(cluster, return_inverse=True)
    by_cluster = np.zeros((len(used), rows.shape[1]))
    np.add.at(by_cluster, place, rows)
    return np.asarray((weights if len(used) == weights.shape[1] else weights[:, used]) @ by_cluster)


def _divided(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where `below` is 0."""
    return np.where(below != 0, above / np.where(below != 0, below, 1.0), np.nan)
