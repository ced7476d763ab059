"""What all raters of a candidate say together, a pure function of one named snapshot of the annotations.

| method | a score | an issue stands |
|---|---|---|
| `huber-3.125` | Huber's mean of the answers | where half of the raters name it |
| `latent-1` | what the answers say once bias, harshness and noise of each rater are known | where its chance is 1/2 |

The second needs a model of the whole panel (`annotation.raters.score_model`), fitted once over the snapshot; given the
model, a candidate's consensus depends on its own annotations alone, so it is written part by part in any order. A
snapshot that is too small for a model gets the first. Spreads are those of the answers as they were given, whatever
the method.
Masks: one of all annotators' for each region that somebody outlined.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import fmean, stdev
from typing import TypeVar

import numpy as np

from annotation.client import Answer
from annotation.raters.answers import IMAGE_SCORES, LEVEL_OF, RatedQuestion, dimension_of, table
from annotation.raters.coefficients import alpha_parts
from annotation.raters.issue_model import fit_issues
from annotation.raters.masks import area_px, joint_mask, overlaps
from annotation.raters.matching import Group, match_regions
from annotation.raters.panel_model import PanelModel
from annotation.raters.score_model import LATENT, fit_scores
from runtime.masks import mask_box, rle_to_mask
from schemas.agreement import Dimension
from schemas.ranking import Ranking
from schemas.region import ObservedMask, RegionStatus
from schemas.score import SCORE_MAX, Annotation, Consensus, Issue, RegionConsensus, ScoreSummary

#: How far from the middle an answer has its full say, in points: half of one of the five levels. Chosen on simulated
#: panels: against a whole level it gains much where a rater answers at random, and loses little where none does.
HUBER_DELTA = SCORE_MAX / 8
METHOD = f"huber-{HUBER_DELTA:g}"
#: Means and spreads are rounded to this many decimals: far below a level, and readable.
DECIMALS = 4
#: `--method`: the one that knows raters, and the one that needs none.
METHODS = ("latent", "huber")
#: One rater's answer to a question; None where it was asked and did not answer.
Given = tuple[str, int | None]
AnswerT = TypeVar("AnswerT", Annotation, Ranking)


def robust_mean(answers: Sequence[float]) -> float:
    """Huber's M-estimate of location with a fixed scale: the mu where sum(clip(x_i - mu, -d, d)) is 0; d = 3.125.

    An answer within d of mu counts as in the mean, one further away as if it were d away: a single wild answer moves
    the result by at most d / (n - 1) off the mean of the n - 1 others, where those lie within d of it. Where a whole
    interval solves it (raters in two even camps), its middle. The scale is fixed because raters in five levels agree
    exactly so often that a scale taken from the answers would be 0. Solved exactly, on the sum's straight pieces.

    Raises: ValueError without an answer.
    Source: P. J. Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35 (1964).
    """
    if not answers:
        raise ValueError("no answers")
    ordered = sorted(answers)
    corners = sorted({ordered[0], ordered[-1], *(x + d for x in ordered for d in (-HUBER_DELTA, HUBER_DELTA))})
    corners = [corner for corner in corners if ordered[0] <= corner <= ordered[-1]]
    pulls = [_pull(ordered, corner) for corner in corners]
    last_up = max(i for i, pull in enumerate(pulls) if pull >= 0)
    first_down = min(i for i, pull in enumerate(pulls) if pull <= 0)
    if first_down <= last_up:
        return (corners[first_down] + corners[last_up]) / 2
    low, high = corners[last_up], corners[first_down]
    return low + (high - low) * pulls[last_up] / (pulls[last_up] - pulls[first_down])


def _pull(answers: Iterable[float], mu: float) -> float:
    return sum(min(max(x - mu, -HUBER_DELTA), HUBER_DELTA) for x in answers)


def summary(answers: Iterable[float | None]) -> ScoreSummary:
    """One score over raters: None is an answer that was asked for and is missing; it is counted and never filled in."""
    asked = list(answers)
    given = [answer for answer in asked if answer is not None]
    return ScoreSummary(
        mean=round(robust_mean(given), DECIMALS) if given else None,
        spread=round(stdev(given), DECIMALS) if len(given) > 1 else None,
        n_raters=len(given),
        n_missing=len(asked) - len(given),
    )


def current(annotations: Iterable[AnswerT]) -> list[AnswerT]:
    """What stands: of each annotation its latest version, of each rater the latest annotation, without deleted ones.

    annotations: of one candidate, or rankings of one request, in the order of arrival, which decides between equal
    times. Sorted by rater.
    """
    latest = {annotation.id: annotation for annotation in sorted(annotations, key=_time)}
    standing = [annotation for annotation in latest.values() if annotation.state != "deleted"]
    by_rater = {annotation.rater: annotation for annotation in sorted(standing, key=_time)}
    return [by_rater[rater] for rater in sorted(by_rater)]


def _time(annotation: Answer) -> datetime:
    return datetime.fromisoformat(annotation.updated_at)


def fit_panel(standing: Mapping[str, Sequence[Annotation]]) -> PanelModel:
    """The model of all raters. standing: by candidate, what `current` gives. The same for any order of candidates."""
    answers = table(standing)
    groups = {candidate: match_regions(annotations) for candidate, annotations in standing.items()}
    scores = fit_scores(answers)
    expected = alpha_parts(answers)
    if isinstance(scores, str):
        return PanelModel(None, {}, expected, scores)
    return PanelModel(scores, fit_issues(groups), expected)


def method_of(model: PanelModel | None) -> str:
    """The name that stands in every consensus that this model gives."""
    return METHOD if model is None or model.scores is None else LATENT


def consensus(annotations: Sequence[Annotation], snapshot: str, model: PanelModel | None = None) -> Consensus:
    """The consensus of a candidate's annotations, as `current` gives them, in the snapshot of that name.

    model: of the whole snapshot, from `fit_panel`; without one, or with one that knows no raters, Huber's means. Who
    skipped the task or could not judge was asked everything and answered nothing. A region that one rater scored and
    another did not is missing for the other.

    Raises: ValueError without an annotation, or with annotations of several candidates.
    """
    (candidate,) = {annotation.scores.candidate for annotation in annotations}
    submitted = [annotation.scores for annotation in annotations if annotation.state == "submitted"]
    silent = [(annotation.scores.rater, None) for annotation in annotations if annotation.state != "submitted"]
    image = {
        name: _summary(
            dimension_of("image", name), [*((row.rater, getattr(row, name)) for row in submitted), *silent], model
        )
        for name in IMAGE_SCORES
    }
    raters = [scores.rater for scores in submitted]
    groups = match_regions(annotations)
    masks = (_mask(candidate, group) for group in groups)
    return Consensus(
        candidate=candidate,
        snapshot=snapshot,
        method=method_of(model),
        synthetic=any(annotation.scores.synthetic for annotation in annotations),
        regions=tuple(_region(group, raters, silent, model) for group in groups if group.scores),
        masks=tuple(mask for mask in masks if mask),
        **image,
    )


def _summary(dimension: Dimension, given: Sequence[Given], model: PanelModel | None) -> ScoreSummary:
    found = summary([score for _, score in given])
    levels = {rater: LEVEL_OF[score] for rater, score in given if score is not None}
    if model is None or model.scores is None or not levels:
        return found
    mean, _ = model.scores.score(RatedQuestion(dimension, "", levels))
    return found.model_copy(update={"mean": round(mean, DECIMALS)})


def _region(group: Group, raters: Sequence[str], silent: Sequence[Given], model: PanelModel | None) -> RegionConsensus:
    given = {
        name: [*((rater, getattr(group.scores.get(rater), name, None)) for rater in raters), *silent]
        for name in ("success", "preserve")
    }
    return RegionConsensus(
        region=group.key,
        success=_summary(dimension_of("region", "success"), given["success"], model),
        preserve=_summary(dimension_of("region", "preserve"), given["preserve"], model),
        issues=_issues(group, len(raters), model),
        agreement=_agreement(given, model),
    )


def _issues(group: Group, n_raters: int, model: PanelModel | None) -> tuple[Issue, ...]:
    """The issues that stand, sorted. Without a model: those that at least half of those who submitted name."""
    if model is None or model.scores is None:
        counts = Counter[Issue](issue for score in group.scores.values() for issue in set(score.issues))
        return tuple(sorted(issue for issue, count in counts.items() if 2 * count >= n_raters))
    return tuple(
        sorted(
            issue
            for issue, one in model.issues.items()
            if one.chance({rater: issue in score.issues for rater, score in group.scores.items()}) >= 0.5
        )
    )


def _agreement(given: Mapping[str, Sequence[Given]], model: PanelModel | None) -> float | None:
    """The region's part of Krippendorff's ordinal alpha: 1 less its raters' distance over what chance would give."""
    parts = []
    for name, answers in given.items():
        expected = model.expected.get(dimension_of("region", name)) if model else None
        levels = np.array([LEVEL_OF[score] for _, score in answers if score is not None], dtype=np.int64)
        if expected is not None and len(levels) > 1:
            pairs = expected[levels[:, None], levels[None, :]].sum() / (len(levels) * (len(levels) - 1))
            parts.append(1 - float(pairs))
    return round(fmean(parts), DECIMALS) if parts else None


def _mask(candidate: str, group: Group) -> ObservedMask | None:
    """One mask from all annotators'; confidence: the mean IoU of theirs with it."""
    given = [group.masks[rater] for rater in sorted(group.masks)]
    joint = joint_mask([mask.mask for mask in given])
    if joint is None:
        return None
    statuses = Counter[RegionStatus](mask.status for mask in given)
    return ObservedMask(
        candidate=candidate,
        region=group.key,
        origin="consensus",
        status=min(statuses, key=lambda status: (-statuses[status], status)),
        mask=joint,
        box=mask_box(rle_to_mask(joint)),
        area_px=area_px(joint) or 0,
        confidence=round(float(overlaps([joint], [mask.mask for mask in given]).mean()), DECIMALS),
    )
