"""Gold: tasks whose answers are known, mixed in among the others, and what they tell of a rater.

A gold answer is one answer to one question. Who answers at random is found by a sequential test: how likely are the
answers for somebody who does not look, over how likely they are for the best fitting honest rater? Above
1 / `FALSE_ALARM` the rater is taken for random.

An honest rater is any (bias, harshness, noise) of a grid, with a slip now and then; the best fitting one is chosen
after the fact. So the ratio is below the one against the rater's true kind, which is a martingale, and by Ville's
inequality an honest rater of the grid is ever taken for random with a chance of at most `FALSE_ALARM` in a block of
answers, however harsh, biased or noisy, and wherever one stops to look. Who does not look: mostly any level alike,
else some habit, learnt from the answers themselves (always 25, mostly the middle; the estimator of Krichevsky and
Trofimov).
Answers are tested in blocks of `BLOCK`, each by itself: a rater may drift from one to the next, and one who stops
looking later is found, too.

Sources: A. Wald, Sequential Tests of Statistical Hypotheses (1945); L. Wasserman, A. Ramdas and S. Balakrishnan,
Universal inference (2020), for the ratio against the best fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from math import log
from pathlib import Path

import numpy as np

from annotation.raters.answers import IMAGE_SCORES, LEVEL_OF, N_LEVELS, REGION_SCORES, Floats
from annotation.raters.coefficients import DECIMALS
from annotation.raters.score_model import level_chances
from schemas.agreement import Figure, GoldSummary
from schemas.errors import BadInput
from schemas.score import LEVEL_SCORES, Annotation, CandidateScore

#: A run's known scores, one candidate a line; it lies in the run folder and goes into no task.
GOLD_FILE = "gold.jsonl"
#: An honest rater: bias and noise in points of 25, harshness, and the share of slips, which hit any level.
BIASES = np.arange(-6, 6.1, 1.0)
HARSHNESSES = np.exp(np.linspace(-0.6, 0.6, 7))
NOISES = np.array([0.75, 1.5, 2.5, 3.25, 4.0])
SLIP = 0.02
#: Of those who do not look, the share that has a habit; the others take any level alike.
HABIT = 0.2

BLOCK = 20
FALSE_ALARM = 0.025
THRESHOLD = log(1 / FALSE_ALARM)
#: Two-sided 95 % of the normal distribution.
Z95 = 1.96
MIN_FOR_DRIFT = 8


@dataclass(frozen=True)
class GoldAnswer:
    """One answer to a question whose true score 0..25 is known; level 0..4."""

    truth: int
    level: int

    @property
    def error(self) -> int:
        """The answer's score less the truth."""
        return LEVEL_SCORES[self.level] - self.truth


@dataclass(frozen=True)
class Verdict:
    """found_after: after how many answers a rater was taken for random, None for never.

    evidence: the largest log likelihood ratio of a block; above `THRESHOLD` it is random.
    """

    found_after: int | None
    evidence: float


def gold_answers(gold: Mapping[str, CandidateScore], annotations: Sequence[Annotation]) -> list[GoldAnswer]:
    """One rater's answers to gold in the order of their times. gold: known scores by candidate.

    annotations: what stands of that rater. Questions that either leaves open are left out, and unplanned regions, too.
    """
    submitted = [row for row in annotations if row.state == "submitted" and row.scores.candidate in gold]
    found = []
    for row in sorted(submitted, key=lambda row: (datetime.fromisoformat(row.created_at), row.scores.candidate)):
        known, said = gold[row.scores.candidate], {region.region: region for region in row.scores.regions}
        pairs = [(getattr(known, name), getattr(row.scores, name)) for name in IMAGE_SCORES]
        for region in known.regions:
            if not region.region.startswith("extra-") and region.region in said:
                pairs += [(getattr(region, name), getattr(said[region.region], name)) for name in REGION_SCORES]
        found += [GoldAnswer(t, LEVEL_OF[score]) for t, score in pairs if t is not None and score is not None]
    return found


@cache
def _honest() -> Floats:
    """Log chance (G, 26, 5) of each level at each true score, for every honest rater of the grid."""
    axes = np.meshgrid(BIASES, HARSHNESSES, NOISES, indexing="ij")
    bias, harshness, noise = (axis.ravel() for axis in axes)
    return np.asarray(np.log((1 - SLIP) * level_chances(bias, harshness, noise) + SLIP / N_LEVELS))


def random_verdict(answers: Sequence[GoldAnswer]) -> Verdict:
    """Whether somebody answers without looking; see the module. Depends on the answers in their order alone."""
    found_after, evidence = None, 0.0
    for begin in range(0, len(answers), BLOCK):
        ratios = log_ratios(answers[begin : begin + BLOCK])
        evidence = max(evidence, max(ratios))
        over = next((n for n, ratio in enumerate(ratios, 1) if ratio >= THRESHOLD), None)
        if found_after is None and over is not None:
            found_after = begin + over
    return Verdict(found_after, evidence)


def log_ratios(answers: Sequence[GoldAnswer]) -> list[float]:
    """After each answer: log chance of all so far for one who does not look, less that for the best honest rater."""
    honest: Floats = np.zeros(len(_honest()))
    even = habit = 0.0
    seen = np.zeros(N_LEVELS)
    ratios = []
    for answer in answers:
        honest = honest + _honest()[:, answer.truth, answer.level]
        even -= log(N_LEVELS)
        habit += log((seen[answer.level] + 0.5) / (seen.sum() + N_LEVELS / 2))
        seen[answer.level] += 1
        blind = np.logaddexp(log(1 - HABIT) + even, log(HABIT) + habit)
        ratios.append(float(blind - honest.max()))
    return ratios


def gold_summary(rater: str, answers: Sequence[GoldAnswer]) -> GoldSummary:
    """A rater's accuracy, mean error and drift on gold, and whether the answers are random."""
    verdict = random_verdict(answers)
    off = np.array([abs(answer.level - LEVEL_OF[answer.truth]) for answer in answers])
    return GoldSummary(
        rater=rater,
        n_answers=len(answers),
        exact=float((off == 0).mean()) if len(off) else None,
        near=float((off <= 1).mean()) if len(off) else None,
        error=_mean_error(answers),
        drift=_drift(answers),
        random=verdict.found_after is not None,
        found_after=verdict.found_after,
        evidence=round(verdict.evidence, DECIMALS),
        threshold=round(THRESHOLD, DECIMALS),
    )


def _mean_error(answers: Sequence[GoldAnswer]) -> Figure:
    if not answers:
        return Figure(value=None, reason="no gold was answered")
    errors = np.array([answer.error for answer in answers], dtype=np.float64)
    if len(errors) < 2:
        return Figure(value=float(errors[0]), reason="one answer has no interval")
    return _with_error(float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(len(errors))))


def _drift(answers: Sequence[GoldAnswer]) -> Figure:
    """How far a straight line through the errors goes from the first answer to the last, in points.

    The line's second input is the truth, so that easy and hard gold in turns are no drift.
    """
    if len(answers) < MIN_FOR_DRIFT:
        return Figure(value=None, reason=f"fewer than {MIN_FOR_DRIFT} gold answers")
    errors = np.array([answer.error for answer in answers], dtype=np.float64)
    truths = np.array([answer.truth for answer in answers], dtype=np.float64)
    inputs = np.column_stack([np.linspace(0, 1, len(answers)), np.ones(len(answers)), truths - truths.mean()])
    inverse = np.linalg.pinv(inputs.T @ inputs)
    line = inverse @ inputs.T @ errors
    variance = ((errors - inputs @ line) ** 2).sum() / (len(answers) - inputs.shape[1])
    return _with_error(float(line[0]), float(np.sqrt(max(0.0, variance * inverse[0, 0]))))


def _with_error(value: float, error: float) -> Figure:
    ends = (round(value - Z95 * error, DECIMALS), round(value + Z95 * error, DECIMALS))
    return Figure(value=round(value, DECIMALS), low=ends[0], high=ends[1])


def choose_gold(known: Mapping[str, CandidateScore], n: int) -> list[str]:
    """Up to `n` candidates whose true answers spread over all five levels: with them a random rater shows soonest.

    known: by candidate, true scores. One after the other, each time the candidate with the most answers on the levels
    that are rare so far; ties by id.
    """
    levels = {candidate: _level_counts(scores) for candidate, scores in sorted(known.items())}
    chosen: list[str] = []
    so_far = np.ones(N_LEVELS)
    while levels and len(chosen) < n:
        gains = {
            candidate: float((counts / so_far).sum() / max(1, counts.sum())) for candidate, counts in levels.items()
        }
        best = max(gains, key=lambda candidate: gains[candidate])
        so_far += levels.pop(best)
        chosen.append(best)
    return chosen


def _level_counts(scores: CandidateScore) -> Floats:
    values = [getattr(scores, name) for name in IMAGE_SCORES]
    values += [getattr(region, name) for region in scores.regions for name in REGION_SCORES]
    found = np.zeros(N_LEVELS)
    for value in values:
        if value is not None:
            found[LEVEL_OF[value]] += 1
    return found


def read_gold(path: Path) -> dict[str, CandidateScore]:
    """Known scores (one `candidate-score` a line) by candidate. Raises: BadInput, naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", "give a file of candidate scores, one a line") from None
    scores = [CandidateScore.from_json(line, thing=f"{path} line {n}") for n, line in enumerate(lines, 1) if line]
    return {score.candidate: score for score in scores}
