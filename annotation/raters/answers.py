"""All raters' answers of many candidates as one long table: which question, which rater, which of five levels.

A question is one kind (`DIMENSIONS`) of one candidate or of one of its matched regions. What was not answered has no
row. Everything is sorted by candidate and rater, so the same annotations give the same table in any order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from annotation.raters.matching import Group, match_regions
from schemas.agreement import Dimension
from schemas.score import LEVEL_SCORES, SCORE_MAX, Annotation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
IMAGE_SCORES = ("background", "success", "overedit", "naturalness", "artifacts")
REGION_SCORES = ("success", "preserve")
N_LEVELS = len(LEVEL_SCORES)
_BY_NAME: dict[str, Dimension] = {str(dimension): dimension for dimension in DIMENSIONS}
#: The level of every score 0..25; a score between two levels is the nearest one's, of two as near the lower.
LEVEL_OF = tuple(
    min(range(len(LEVEL_SCORES)), key=lambda level: (abs(LEVEL_SCORES[level] - score), level))
    for score in range(SCORE_MAX + 1)
)


@dataclass(frozen=True)
class RatedQuestion:
    """One question with its answers: rater -> level 0..4. region: '' for the whole image."""

    dimension: Dimension
    region: str
    levels: Mapping[str, int]


@dataclass(frozen=True)
class Answers:
    """The table, N answers to U questions on C candidates. raters, candidates: sorted names.

    question, rater, level: (N,). dimension, candidate: (U,), indices into `DIMENSIONS` and `candidates`.
    """

    raters: tuple[str, ...]
    candidates: tuple[str, ...]
    question: Ints
    rater: Ints
    level: Ints
    dimension: Ints
    candidate: Ints

    @property
    def n_questions(self) -> int:
        """U."""
        return len(self.dimension)

    def matrix(self, dimension: Dimension) -> tuple[Floats, Ints]:
        """(levels (u, raters), candidates (u,)) of the questions of a kind; NaN is no answer."""
        chosen = np.flatnonzero(self.dimension == DIMENSIONS.index(dimension))
        levels = np.full((self.n_questions, len(self.raters)), np.nan)
        levels[self.question, self.rater] = self.level
        return levels[chosen], self.candidate[chosen]


def dimension_of(kind: str, score: str) -> Dimension:
    """The kind of question of a `region`'s or an `image`'s score."""
    return _BY_NAME[f"{kind}.{score}"]


def questions(annotations: Sequence[Annotation], groups: Sequence[Group]) -> list[RatedQuestion]:
    """The questions of one candidate that somebody answered; groups: its matched regions."""
    submitted = [annotation.scores for annotation in annotations if annotation.state == "submitted"]
    found = [
        RatedQuestion(
            dimension_of("image", name), "", _levels((scores.rater, getattr(scores, name)) for scores in submitted)
        )
        for name in IMAGE_SCORES
    ]
    for group in groups:
        for name in REGION_SCORES:
            levels = _levels((rater, getattr(score, name)) for rater, score in group.scores.items())
            found.append(RatedQuestion(dimension_of("region", name), group.key, levels))
    return [question for question in found if question.levels]


def _levels(given: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    return {rater: LEVEL_OF[score] for rater, score in given if score is not None}


def table(standing: Mapping[str, Sequence[Annotation]]) -> Answers:
    """All answers. standing: by candidate, what stands of its annotations (`annotation.raters.consensus.current`)."""
    candidates = tuple(sorted(standing))
    raters = tuple(sorted({row.scores.rater for rows in standing.values() for row in rows if row.state == "submitted"}))
    places = {rater: place for place, rater in enumerate(raters)}
    rows: list[tuple[int, int, int]] = []
    kinds: list[tuple[int, int]] = []
    for number, candidate in enumerate(candidates):
        annotations = standing[candidate]
        for question in questions(annotations, match_regions(annotations)):
            answered = sorted((places[rater], level) for rater, level in question.levels.items())
            rows += [(len(kinds), rater, level) for rater, level in answered]
            kinds.append((DIMENSIONS.index(question.dimension), number))
    long = np.array(rows, dtype=np.int64).reshape(-1, 3)
    wide = np.array(kinds, dtype=np.int64).reshape(-1, 2)
    return Answers(raters, candidates, long[:, 0], long[:, 1], long[:, 2], wide[:, 0], wide[:, 1])
