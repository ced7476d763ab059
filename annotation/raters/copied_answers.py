"""Raters who copy from one another, found by how often they say the same where one of them is off the others' median.

Raters who copy count as one: of the questions where one of two is off the median of the others, honest raters say the
same on less than half, copying ones on all. From `COPY_SHARE` on both lose weight.
"""

from itertools import combinations

import numpy as np

from annotation.raters.answers import Answers, Floats
from schemas.agreement import CopiedAnswers

COPY_SHARE, MIN_OFF = 0.85, 20
#: Of two raters' shared questions so many are looked at for copying; candidates' ids are in no order that matters.
MAX_COPY_QUESTIONS = 4_000


def copy_weights(answers: Answers) -> tuple[Floats, tuple[CopiedAnswers, ...]]:
    """(weights (R,), pairs that copy). Two who always say the same weigh a half each, three a third."""
    levels = np.full((answers.n_questions, len(answers.raters)), np.nan)
    levels[answers.question, answers.rater] = answers.level
    there = ~np.isnan(levels)
    excess = np.zeros((len(answers.raters), len(answers.raters)))
    copies = []
    for one, other in combinations(range(len(answers.raters)), 2):
        rows = np.flatnonzero(there[:, one] & there[:, other])[:MAX_COPY_QUESTIONS]
        if len(rows) < MIN_OFF:
            continue
        same, n_off = _same_where_off(levels[rows], one, other)
        if n_off >= MIN_OFF and same >= COPY_SHARE:
            excess[one, other] = excess[other, one] = (same - COPY_SHARE) / (1 - COPY_SHARE)
            first, second = answers.raters[one], answers.raters[other]
            copies.append(CopiedAnswers(first=first, second=second, same=round(same, 4), n_off=n_off))
    return 1 / (1 + excess.sum(axis=1)), tuple(copies)


def _same_where_off(levels: Floats, one: int, other: int) -> tuple[float, int]:
    """Where either of two is off the others' median: the share on which they agree, and how many there are."""
    others = np.sort(np.delete(levels, [one, other], axis=1), axis=1)  # NaN comes last
    n = (~np.isnan(others)).sum(axis=1)
    rows = np.flatnonzero(n)
    if not len(rows):
        return 0.0, 0
    middle = (others[rows, (n[rows] - 1) // 2] + others[rows, n[rows] // 2]) / 2
    first, second = levels[rows, one], levels[rows, other]
    off = (first != middle) | (second != middle)
    return float((first == second)[off].mean()) if off.any() else 0.0, int(off.sum())
