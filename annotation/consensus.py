"""What all raters of a candidate say together: a robust mean of every score, a pure function of one named snapshot.

It covers means, spreads and counts. Agreement coefficients, models of the raters and masks are not its matter.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import stdev

from schemas.score import SCORE_MAX, Annotation, Consensus, Issue, RegionConsensus, RegionScore, ScoreSummary

#: How far from the middle an answer has its full say, in points: half of one of the five levels. Chosen on simulated
#: panels: against a whole level it gains much where a rater answers at random, and loses little where none does.
HUBER_DELTA = SCORE_MAX / 8
METHOD = f"huber-{HUBER_DELTA:g}"
#: Means and spreads are rounded to this many decimals: far below a level, and readable.
DECIMALS = 4
IMAGE_SCORES = ("background", "success", "overedit", "naturalness", "artifacts")


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


def current(annotations: Iterable[Annotation]) -> list[Annotation]:
    """What stands: of each annotation its latest version, of each rater the latest annotation, without deleted ones.

    annotations: of one candidate, in the order of arrival, which decides between equal times. Sorted by rater.
    """
    latest = {annotation.id: annotation for annotation in sorted(annotations, key=_time)}
    standing = [annotation for annotation in latest.values() if annotation.state != "deleted"]
    by_rater = {annotation.scores.rater: annotation for annotation in sorted(standing, key=_time)}
    return [by_rater[rater] for rater in sorted(by_rater)]


def _time(annotation: Annotation) -> datetime:
    return datetime.fromisoformat(annotation.updated_at)


def consensus(annotations: Sequence[Annotation], snapshot: str) -> Consensus:
    """The consensus of a candidate's annotations, as `current` gives them, in the snapshot of that name.

    Who skipped the task or could not judge was asked everything and answered nothing. A region that one rater scored
    and another did not is missing for the other. An issue stands where at least half of those who submitted name it.

    Raises: ValueError without an annotation, or with annotations of several candidates.
    """
    (candidate,) = {annotation.scores.candidate for annotation in annotations}
    submitted = [annotation.scores for annotation in annotations if annotation.state == "submitted"]
    silent = [None] * (len(annotations) - len(submitted))
    image = {name: summary([*(getattr(scores, name) for scores in submitted), *silent]) for name in IMAGE_SCORES}
    found = [{score.region: score for score in scores.regions} for scores in submitted]
    keys = sorted({key for regions in found for key in regions}, key=_planned_first)
    return Consensus(
        candidate=candidate,
        snapshot=snapshot,
        method=METHOD,
        synthetic=any(annotation.scores.synthetic for annotation in annotations),
        regions=tuple(_region(key, [regions.get(key) for regions in found], silent) for key in keys),
        **image,
    )


def _planned_first(key: str) -> tuple[bool, int, str]:
    extra = key.startswith("extra-")
    return extra, int(key.removeprefix("extra-")) if extra else 0, key


def _region(key: str, scores: Sequence[RegionScore | None], silent: list[None]) -> RegionConsensus:
    named = Counter[Issue](issue for score in scores if score for issue in set(score.issues))
    return RegionConsensus(
        region=key,
        success=summary([*(score.success if score else None for score in scores), *silent]),
        preserve=summary([*(score.preserve if score else None for score in scores), *silent]),
        issues=tuple(sorted(issue for issue, count in named.items() if 2 * count >= len(scores))),
    )
