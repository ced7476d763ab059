"""What every rater of a snapshot is like, and the scores that follow once that is taken into account.

Each question has a true score t in 0..25. A rater hears `25 - h (25 - t) + b + s N(0, 1)` and answers the
nearest of the five levels, or, for a share p of questions, any level at random. b is the rater's bias, h its harshness.
A rater is a weight for every (b, h, s, p) of a grid, which begins as the prior and moves with the answers: with few
answers it stays near the prior, so nobody is corrected on little evidence, and who answers at random loses its say.
Scores and raters are found in turns, by variational EM.

Nobody can tell a whole panel's leniency from better images. Three things hold the scale: the prior of b and h has its
middle at 0 and 1; the prior of t is where the panel's medians lie, for each kind of question; and it may move in the
first `PRIOR_UPDATES` turns alone, which stops it from running away. A true score between levels shows only in how
raters of different bias split over them.

Raters who copy lose weight (`annotation.raters.copied_answers`).

Source: B. Lakshminarayanan and Y. W. Teh, Inferring ground truth from multi-annotator ordinal data: a probabilistic
approach (2013), for a latent score heard with bias and noise and cut into levels. The grid, the anchor of the scale and
the weights of copying raters are this project's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from annotation.raters.answers import DIMENSIONS, N_LEVELS, Answers, Floats, RatedQuestion
from annotation.raters.copied_answers import copy_weights
from schemas.agreement import CopiedAnswers
from schemas.score import LEVEL_SCORES, SCORE_MAX

LATENT = "latent-1"
SCORES = np.arange(SCORE_MAX + 1, dtype=np.float64)
CUTS = (np.array(LEVEL_SCORES[1:]) + np.array(LEVEL_SCORES[:-1])) / 2

#: The grid of raters: bias and noise in points of 25, harshness, share of random answers.
BIASES = np.arange(-8, 8.1, 0.5)
HARSHNESSES = np.exp(np.arange(-0.6, 0.61, 0.1))
NOISES = np.array([0.75, 1.5, 2.5, 3.5, 5.0, 7.0])
RANDOM_SHARES = np.array([0.01, 0.05, 0.2, 0.5, 0.95])
#: Priors: normal in bias, log harshness and log noise; most raters answer at random hardly ever.
BIAS_STD, LOG_HARSHNESS_STD, LOG_NOISE_STD, NOISE_MIDDLE = 2.5, 0.25, 0.6, 2.5
RANDOM_PRIOR = np.array([0.6, 0.25, 0.07, 0.04, 0.04])

#: A level stands for the scores up to so many points beside its own.
HALF_LEVEL = 3
MAX_TURNS, PRIOR_UPDATES, STILL = 60, 3, 1e-3
#: The share of the prior of scores that is spread evenly, for what no median shows.
EVEN_SHARE = 0.04
#: Questions that several raters must share before anything is said of them.
MIN_SHARED = 20

TOO_FEW = f"fewer than {MIN_SHARED} questions that two raters answered"


@dataclass(frozen=True)
class RaterEstimate:
    """One rater: means over the grid, with standard errors of bias and harshness. weight: 1, less for copies."""

    bias: float
    bias_error: float
    harshness: float
    harshness_error: float
    noise: float
    random_share: float
    weight: float


@dataclass(frozen=True)
class ScoreModel:
    """The panel. tables: by rater, log chance of each level at each score, (26, 5). prior: (7, 26) log chances."""

    raters: Mapping[str, RaterEstimate]
    tables: Mapping[str, Floats]
    prior: Floats
    unknown: Floats
    copies: tuple[CopiedAnswers, ...] = ()

    def score(self, question: RatedQuestion) -> tuple[float, float]:
        """(score 0..25, its standard error) of a question with answers: mean and deviation of what it can be."""
        chances = self.prior[DIMENSIONS.index(question.dimension)].copy()
        for rater in sorted(question.levels):
            weight = self.raters[rater].weight if rater in self.raters else 1.0
            chances += weight * self.tables.get(rater, self.unknown)[:, question.levels[rater]]
        chances = np.exp(chances - chances.max())
        chances /= chances.sum()
        mean = float(chances @ SCORES)
        return mean, float(np.sqrt(max(0.0, chances @ (SCORES - mean) ** 2)))


@cache
def _grid() -> tuple[Floats, Floats, Floats]:
    """(raters (G, 4), log chances (G, 26 * 5), log prior (G,)); rows are bias, harshness, noise, random share."""
    axes = np.meshgrid(BIASES, HARSHNESSES, NOISES, RANDOM_SHARES, indexing="ij")
    raters: Floats = np.stack([axis.ravel() for axis in axes], axis=1)
    heard = level_chances(raters[:, 0], raters[:, 1], raters[:, 2])
    random = raters[:, 3, None, None]
    logs = np.log(heard * (1 - random) + random / N_LEVELS).reshape(len(raters), -1)
    prior: Floats = -0.5 * (raters[:, 0] / BIAS_STD) ** 2 - 0.5 * (np.log(raters[:, 1]) / LOG_HARSHNESS_STD) ** 2
    prior -= 0.5 * ((np.log(raters[:, 2]) - np.log(NOISE_MIDDLE)) / LOG_NOISE_STD) ** 2
    return raters, logs, prior + np.log(RANDOM_PRIOR)[np.searchsorted(RANDOM_SHARES, raters[:, 3])]


def level_chances(bias: Floats, harshness: Floats, noise: Floats) -> Floats:
    """Chance (G, 26, 5) of each level at each true score, for raters (G,) who never answer at random."""
    from scipy.special import ndtr

    heard = SCORE_MAX - harshness[:, None] * (SCORE_MAX - SCORES) + bias[:, None]
    below = ndtr((CUTS - heard[:, :, None]) / noise[:, None, None])
    ends = np.zeros((*heard.shape, 1))
    return np.diff(np.concatenate([ends, below, ends + 1], axis=2), axis=2)


def fit_scores(answers: Answers) -> ScoreModel | str:
    """The panel behind the answers, or why there is none. Deterministic: the same table gives the same model."""
    per_question = np.bincount(answers.question, minlength=answers.n_questions)
    if (per_question >= 2).sum() < MIN_SHARED:
        return TOO_FEW
    raters, logs, log_prior = _grid()
    weights, copies = copy_weights(answers)
    prior = _first_prior(answers)
    shares = np.repeat(normal(log_prior[None]), len(answers.raters), axis=0)
    before: Floats = np.full((len(answers.raters), raters.shape[1]), np.inf)
    for turn in range(MAX_TURNS):
        tables = (shares @ logs).reshape(-1, len(SCORES), N_LEVELS)
        chances = _score_chances(answers, tables, prior, weights)
        if turn < PRIOR_UPDATES:
            prior = _prior_of(answers, chances)
        counts = _counts(answers, chances)
        shares = normal(counts.reshape(len(counts), -1) @ logs.T + log_prior)
        if np.abs(shares @ raters - before).max() < STILL:
            break
        before = np.asarray(shares @ raters)
    tables = (shares @ logs).reshape(-1, len(SCORES), N_LEVELS)
    unknown = (normal(log_prior[None]) @ logs).reshape(len(SCORES), N_LEVELS)
    estimates = {name: _estimate(shares[n], float(weights[n])) for n, name in enumerate(answers.raters)}
    return ScoreModel(estimates, dict(zip(answers.raters, tables, strict=True)), np.log(prior), unknown, copies)


def _estimate(shares: Floats, weight: float) -> RaterEstimate:
    raters = _grid()[0]
    means = shares @ raters
    errors = np.sqrt(np.maximum(shares @ (raters - means) ** 2, 0))
    bias, harshness, noise, random = (float(value) for value in means)
    return RaterEstimate(bias, float(errors[0]), harshness, float(errors[1]), noise, random, weight)


def _first_prior(answers: Answers) -> Floats:
    """Where the panel's medians lie, by kind of question: (7, 26). Between the ends a median stands for all scores
    that its level does; at the ends, where nothing is wrong or nothing right, for itself."""
    medians = _medians(answers)
    inner = (medians > 0) & (medians < SCORE_MAX)
    found = np.zeros((len(DIMENSIONS), len(SCORES)))
    for off in range(-HALF_LEVEL, HALF_LEVEL + 1):
        share = np.where(inner, 1 / (2 * HALF_LEVEL + 1), float(off == 0))
        at = np.clip(medians + off, 0, SCORE_MAX)
        low = np.floor(at).astype(np.int64)
        np.add.at(found, (answers.dimension, low), (1 - at + low) * share)
        np.add.at(found, (answers.dimension, np.minimum(low + 1, SCORE_MAX)), (at - low) * share)
    return _smoothed(found)


def _medians(answers: Answers) -> Floats:
    """Median score (U,) of every question's answers; every question has one."""
    order = np.lexsort((answers.level, answers.question))
    scores = np.array(LEVEL_SCORES, dtype=np.float64)[answers.level[order]]
    counts = np.bincount(answers.question, minlength=answers.n_questions)
    first = np.cumsum(counts) - counts
    return np.asarray((scores[first + (counts - 1) // 2] + scores[first + counts // 2]) / 2)


def _prior_of(answers: Answers, chances: Floats) -> Floats:
    found = np.zeros((len(DIMENSIONS), len(SCORES)))
    np.add.at(found, answers.dimension, chances)
    return _smoothed(found)


def _smoothed(counts: Floats) -> Floats:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray((1 - EVEN_SHARE) * shares + np.maximum(EVEN_SHARE, 1 - shares.sum(axis=1, keepdims=True)) / 26)


def _score_chances(answers: Answers, tables: Floats, prior: Floats, weights: Floats) -> Floats:
    """Chance (U, 26) of each score of every question."""
    logs = np.log(prior)[answers.dimension]
    for score in range(len(SCORES)):
        said = weights[answers.rater] * tables[answers.rater, score, answers.level]
        logs[:, score] += np.bincount(answers.question, said, answers.n_questions)
    return normal(logs)


def _counts(answers: Answers, chances: Floats) -> Floats:
    """How often each rater gave each level at each score, in expectation: (R, 26, 5)."""
    place, n_places = answers.rater * N_LEVELS + answers.level, len(answers.raters) * N_LEVELS
    columns = [np.bincount(place, chances[answers.question, score], n_places) for score in range(len(SCORES))]
    return np.stack([column.reshape(-1, N_LEVELS) for column in columns], axis=1)


def normal(logs: Floats) -> Floats:
    """Shares that sum to 1 in each row, from their logarithms up to a constant."""
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
