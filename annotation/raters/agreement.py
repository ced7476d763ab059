"""How far raters agree: the figures of `schemas.agreement`, from what stands of a snapshot.

An interval is the 2.5th and 97.5th percentile over resamples of whole candidates, or of whole sources where they are
known, since answers on one image hang together. A figure that cannot be computed has no value and says why.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from annotation.raters.answers import DIMENSIONS, IMAGE_SCORES, REGION_SCORES, Answers, Floats, Ints, table
from annotation.raters.coefficients import (
    DECIMALS,
    alpha_figure,
    complete_block,
    divided,
    figure,
    icc_figure,
    kappa_figure,
    level_counts,
    summed,
)
from annotation.raters.masks import overlaps
from annotation.raters.matching import Group, match_regions
from annotation.raters.panel_model import PanelModel
from runtime import bootstrap
from schemas.agreement import (
    Agreement,
    Dimension,
    DimensionAgreement,
    Figure,
    GoldSummary,
    IssueAgreement,
    RaterSummary,
)
from schemas.score import Annotation, Issue

RESAMPLES = 1_000


def resamples(n_clusters: int, samples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Weights (1 + samples, n_clusters): ones, then how often each cluster is drawn with replacement."""
    return bootstrap.resamples(n_clusters, samples, seed, stream="agreement")


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
    sums = summed(np.column_stack([np.ones(len(table)), table[:, 1]]), where, weights)
    means = divided(sums[:, 1], sums[:, 0])
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
