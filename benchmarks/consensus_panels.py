"""Panels of simulated raters for `benchmarks.consensus`: those that err as the rater model assumes, and others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.raters.answers import IMAGE_SCORES, REGION_SCORES
from annotation.raters.simulated import CopyingRater, Rater, SteadyRater, panel
from schemas.record import short_hash
from schemas.score import CandidateScore


@dataclass(frozen=True)
class Truth:
    """One candidate's true scores, and its source."""

    scores: CandidateScore
    source: str


def strong(n: int, seed: int) -> tuple[Rater, ...]:
    """Steady raters with bias N(0, 4) points and harshness exp(N(0, .3)): two to three times those of `panel`."""
    rng = np.random.default_rng(int(short_hash("strong", seed), 16))
    return tuple(
        SteadyRater(
            label=f"strong-{number}",
            seed=seed,
            bias=round(float(rng.normal(0, 4)), 3),
            harshness=round(float(np.exp(rng.normal(0, 0.3))), 3),
            noise=round(float(rng.uniform(1.5, 4)), 3),
        )
        for number in range(n)
    )


@dataclass(frozen=True)
class Setting:
    """A panel by its seed. each: raters drawn for a task, None for all. home: it errs as the model assumes.

    tasks: how many candidates, None for all. even: their scores drawn evenly from 0..25 in place of the oracle's.
    """

    raters: Callable[[int], tuple[Rater, ...]]
    each: int | None = None
    home: bool = True
    tasks: int | None = None
    even: bool = False

    def cases(self, cases: Sequence[Truth]) -> list[Truth]:
        """The tasks of this setting."""
        chosen = list(cases[: self.tasks])
        return [Truth(even_scores(case.scores), case.source) for case in chosen] if self.even else chosen


SETTINGS = {
    "2 steady": Setting(lambda seed: panel(2, seed=seed)),
    "3 steady": Setting(lambda seed: panel(3, seed=seed)),
    "5 steady": Setting(lambda seed: panel(5, seed=seed)),
    "12 steady, 3 a task": Setting(lambda seed: panel(12, seed=seed), each=3),
    "5 steady, strong bias": Setting(lambda seed: strong(5, seed)),
    "12 steady, strong bias, 3 a task": Setting(lambda seed: strong(12, seed), each=3),
    "5 steady, 20 tasks": Setting(lambda seed: panel(5, seed=seed), tasks=20),
    "12 steady, strong bias, 3 a task, 40 tasks": Setting(lambda seed: strong(12, seed), each=3, tasks=40),
    "2 steady, even scores": Setting(lambda seed: panel(2, seed=seed), even=True),
    "3 steady, even scores": Setting(lambda seed: panel(3, seed=seed), even=True),
    "5 steady, even scores": Setting(lambda seed: panel(5, seed=seed), even=True),
    "5 steady, even scores, 20 tasks": Setting(lambda seed: panel(5, seed=seed), tasks=20, even=True),
    "4 steady, 1 random": Setting(lambda seed: panel(4, n_random=1, seed=seed), home=False),
    "4 steady, 1 copying": Setting(lambda seed: panel(4, n_copying=1, seed=seed), home=False),
    "4 steady, 1 copying 60 %": Setting(lambda seed: half_copying(seed), home=False),
    "2 steady, 1 copying": Setting(lambda seed: panel(2, n_copying=1, seed=seed), home=False),
    "4 steady, 1 bimodal": Setting(lambda seed: panel(4, n_bimodal=1, seed=seed), home=False),
    "2 steady, 3 bimodal": Setting(lambda seed: panel(2, n_bimodal=3, seed=seed), home=False),
    "2 steady, 3 random": Setting(lambda seed: panel(2, n_random=3, seed=seed), home=False),
    "2 steady, 1 random, 1 copying, 1 bimodal": Setting(
        lambda seed: panel(2, n_random=1, n_copying=1, n_bimodal=1, seed=seed), home=False
    ),
    "5 steady, all 5 points too severe": Setting(lambda seed: shifted(5, seed, -5), home=False),
    "5 with another bias for each question": Setting(lambda seed: by_question(5, seed), home=False),
    "5 with another bias for each question, even scores": Setting(
        lambda seed: by_question(5, seed), home=False, even=True
    ),
}


def even_scores(scores: CandidateScore) -> CandidateScore:
    """The same candidate with scores drawn evenly from 0..25."""
    rng = np.random.default_rng(int(short_hash("even", scores.candidate), 16))
    image = {name: int(rng.integers(0, 26)) for name in IMAGE_SCORES}
    regions = [
        region.model_copy(update={name: int(rng.integers(0, 26)) for name in REGION_SCORES})
        for region in scores.regions
    ]
    return scores.model_copy(update={**image, "regions": tuple(regions)})


def half_copying(seed: int) -> tuple[Rater, ...]:
    """Four steady raters and one who copies the first on 60 % of the tasks."""
    first, *others = steady_panel(5, seed)
    own = others.pop()
    return (first, *others, CopyingRater(label="half", seed=seed, own=own, neighbour=first, share=0.6))


def steady_panel(n: int, seed: int) -> list[SteadyRater]:
    """The steady raters of `panel`."""
    return [rater for rater in panel(n, seed=seed) if isinstance(rater, SteadyRater)]


def shifted(n: int, seed: int, points: float) -> tuple[Rater, ...]:
    """A panel whose raters all have `points` more bias."""
    return tuple(rater.model_copy(update={"bias": rater.bias + points}) for rater in steady_panel(n, seed))


@dataclass(frozen=True)
class ByQuestion:
    """A steady rater with a bias N(0, 4) of its own on each kind of question; the model knows one bias a rater."""

    steady: SteadyRater

    @property
    def name(self) -> str:
        """See `Rater.name`."""
        return f"by-question/{self.steady.name}"

    def answers(self, truth: CandidateScore, index: int) -> list[int | None]:
        """See `Rater.answers`."""
        rng = np.random.default_rng(int(short_hash("biases", self.name), 16))
        shifts = rng.normal(0, 4, len(IMAGE_SCORES) + len(REGION_SCORES))
        said = [self.steady.answers_with_shift(truth, index, float(shift)) for shift in shifts]
        image, regions = len(IMAGE_SCORES), len(REGION_SCORES)
        kinds = [n if n < image else image + (n - image) % regions for n in range(len(said[0]))]
        return [said[kind][n] for n, kind in enumerate(kinds)]


def by_question(n: int, seed: int) -> tuple[Rater, ...]:
    """Raters of `ByQuestion`."""
    return tuple(ByQuestion(rater) for rater in steady_panel(n, seed))
