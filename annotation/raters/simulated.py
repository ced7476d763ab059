"""Simulated raters: people made up by a program, for trying everything behind them without anybody's time.

A rater hears the truth (an oracle's scores) and answers in a person's five levels. What it does depends on itself, the
candidate and, where it drifts, on the task's index alone: never on the order of the tasks, other tasks or the clock.
Every answer says `synthetic`. `SteadyRater` is the model that a consensus assumes; the others break it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import exp
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from annotation.client import Page, Task
from annotation.raters.answers import IMAGE_SCORES
from schemas.errors import BadInput
from schemas.record import Record, short_hash
from schemas.score import LEVEL_SCORES, SCORE_MAX, Annotation, CandidateScore, RegionScore

#: Made-up times begin here and go on a second a task, so that the same answers have the same bytes.
FIRST_TASK_AT = datetime(2000, 1, 1, tzinfo=UTC)
DRIFT_TASKS = 100
#: Answers in one pull.
PAGE_TASKS = 256

#: One answer on each question, in the order of `_questions`: a score of the five levels, or None.
Answers = list[int | None]


class Rater(Protocol):
    """Somebody who answers. name: `simulated:LABEL-HASH`, the hash over all that makes the rater."""

    @property
    def name(self) -> str:
        """Who stands as the rater of the scores."""
        ...

    def answers(self, truth: CandidateScore, index: int) -> Answers:
        """One answer per question on the candidate of `truth`, the task `index`."""
        ...


class _Named(Record):
    label: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    seed: int = 0

    @property
    def name(self) -> str:
        """`simulated:LABEL-HASH`."""
        return f"simulated:{self.label}-{short_hash(type(self).__name__, self.model_dump(mode='json'))[:8]}"

    def _chance(self, candidate: str) -> np.random.Generator:
        return np.random.default_rng(int(short_hash("rater", self.name, candidate), 16))


class SteadyRater(_Named):
    """Who hears every score with an error of the same kind.

    heard = 25 - harshness * (25 - truth) + bias + drift * index / 100 + noise * N(0, 1), then the nearest of the five
    levels. bias, noise and drift in points of 25; harshness above 1 takes more off for every flaw; missing: the share
    of questions left out.
    """

    bias: Annotated[float, Field(ge=-SCORE_MAX, le=SCORE_MAX)] = 0.0
    harshness: Annotated[float, Field(ge=0, le=10)] = 1.0
    noise: Annotated[float, Field(ge=0, le=SCORE_MAX)] = 0.0
    drift: Annotated[float, Field(ge=-SCORE_MAX, le=SCORE_MAX)] = 0.0
    missing: Annotated[float, Field(ge=0, le=1)] = 0.0

    def answers(self, truth: CandidateScore, index: int) -> Answers:
        """See `Rater.answers`; what the truth leaves out stays out."""
        return self.answers_with_shift(truth, index, 0.0)

    def answers_with_shift(self, truth: CandidateScore, index: int, shift: float) -> Answers:
        """The answers with `shift` points on top of the bias."""
        questions = _questions(truth)
        chance = self._chance(truth.candidate)
        errors, left_out = chance.standard_normal(len(questions)), chance.random(len(questions)) < self.missing
        moved = SCORE_MAX + self.bias + shift + self.drift * index / DRIFT_TASKS
        return [
            None if score is None or out else level(moved - self.harshness * (SCORE_MAX - score) + self.noise * error)
            for score, error, out in zip(questions, errors, left_out, strict=True)
        ]


class CopyingRater(_Named):
    """Who looks over to a neighbour: a `share` of tasks is the neighbour's answers, missing ones too; the rest its own.

    Breaks: raters err independently.
    """

    own: SteadyRater
    neighbour: SteadyRater
    share: Annotated[float, Field(ge=0, le=1)] = 1.0

    def answers(self, truth: CandidateScore, index: int) -> Answers:
        """See `Rater.answers`."""
        copied = self._chance(truth.candidate).random() < self.share
        return (self.neighbour if copied else self.own).answers(truth, index)


class BimodalRater(_Named):
    """Who has two moods: on each candidate `swing` points too lenient or too severe, at even odds.

    Breaks: errors are spread around one middle.
    """

    own: SteadyRater
    swing: Annotated[float, Field(ge=0, le=SCORE_MAX)] = 9.0

    def answers(self, truth: CandidateScore, index: int) -> Answers:
        """See `Rater.answers`."""
        lenient = self._chance(truth.candidate).random() < 0.5
        return self.own.answers_with_shift(truth, index, self.swing if lenient else -self.swing)


class RandomRater(_Named):
    """Who answers at random, each level as likely as the others. Breaks: answers have to do with the image."""

    missing: Annotated[float, Field(ge=0, le=1)] = 0.0

    def answers(self, truth: CandidateScore, index: int) -> Answers:
        """See `Rater.answers`; the truth only says how many questions there are."""
        chance = self._chance(truth.candidate)
        n = len(_questions(truth))
        chosen, left_out = chance.integers(0, len(LEVEL_SCORES), n), chance.random(n) < self.missing
        return [None if out else LEVEL_SCORES[pick] for pick, out in zip(chosen, left_out, strict=True)]


def level(heard: float) -> int:
    """The nearest of the five levels' scores to a number of any size; the lower one where two are as near."""
    return min(LEVEL_SCORES, key=lambda score: (abs(score - heard), score))


def _questions(truth: CandidateScore) -> list[int | None]:
    """The true answers: five on the image, then two a region, regions in the order of their keys."""
    image = [truth.background, truth.success, truth.overedit, truth.naturalness, truth.artifacts]
    regions = sorted(truth.regions, key=lambda score: score.region)
    return [*image, *(score for region in regions for score in (region.success, region.preserve))]


def rate(rater: Rater, truth: CandidateScore, index: int) -> CandidateScore:
    """What `rater` says of the candidate of `truth`, the task `index`."""
    answers = rater.answers(truth, index)
    image = dict(zip(IMAGE_SCORES, answers, strict=False))
    keys = sorted(score.region for score in truth.regions)
    pairs = zip(keys, answers[5::2], answers[6::2], strict=True)
    regions = tuple(RegionScore(region=key, success=success, preserve=preserve) for key, success, preserve in pairs)
    return CandidateScore(candidate=truth.candidate, rater=rater.name, synthetic=True, regions=regions, **image)


def panel(
    n_steady: int, *, n_random: int = 0, n_copying: int = 0, n_bimodal: int = 0, seed: int = 0
) -> tuple[Rater, ...]:
    """A panel of raters drawn from `seed`: the steady ones, and beside them those who break the model's assumptions.

    Steady: bias N(0, 1.5) and drift N(0, .5) points, harshness exp(N(0, .15)), noise 1.5..4 points, missing 0..6 %.
    Copying raters look over to the first steady one. Raises: BadInput without a rater, or copying without a steady one.
    """
    if n_steady + n_random + n_copying + n_bimodal == 0:
        raise BadInput("raters", "are none", "ask for at least one")
    if n_copying and not n_steady:
        raise BadInput("copying raters", "have nobody to copy from", "ask for a steady rater, too")
    steady = [_drawn(f"steady-{number}", seed) for number in range(n_steady)]
    raters: list[Rater] = [*steady]
    for n in range(n_copying):
        raters.append(CopyingRater(label=f"copying-{n}", seed=seed, own=_drawn(f"own-{n}", seed), neighbour=steady[0]))
    for n in range(n_bimodal):
        raters.append(BimodalRater(label=f"bimodal-{n}", seed=seed, own=_drawn(f"moody-{n}", seed)))
    raters += [RandomRater(label=f"random-{n}", seed=seed) for n in range(n_random)]
    return tuple(raters)


def _drawn(label: str, seed: int) -> SteadyRater:
    chance = np.random.default_rng(int(short_hash("panel", label, seed), 16))
    bias, drift, harshness = chance.normal(0, 1.5), chance.normal(0, 0.5), exp(chance.normal(0, 0.15))
    noise, missing = chance.uniform(1.5, 4.0), chance.uniform(0, 0.06)
    numbers = {"bias": bias, "drift": drift, "harshness": harshness, "noise": noise, "missing": missing}
    return SteadyRater(label=label, seed=seed, **{name: round(float(number), 3) for name, number in numbers.items()})


class SimulatedClient:
    """A project of simulated raters, in memory: every rater answers every task, task by task as they were pushed."""

    def __init__(self, raters: Sequence[Rater], truths: Mapping[str, CandidateScore]) -> None:
        """truths: by candidate, the scores that the raters hear."""
        self.raters, self.truths = tuple(raters), truths
        self.project = f"simulated-{short_hash(*(rater.name for rater in self.raters))}"
        self.batch_tasks = PAGE_TASKS
        self._tasks: list[Task] = []

    def count(self) -> int:
        """See `AnnotationClient.count`."""
        return len(self._tasks)

    def find(self, keys: Sequence[str]) -> dict[str, str]:
        """See `AnnotationClient.find`."""
        there = {task.candidate: _task_id(task) for task in self._tasks}
        return {candidate: there[candidate] for candidate in keys if candidate in there}

    def get_ready(self, tasks: Sequence[Task]) -> None:
        """See `AnnotationClient.get_ready`; there is nothing to make."""

    def push(self, tasks: Sequence[Task]) -> list[str]:
        """See `AnnotationClient.push`. Raises: BadInput, before any is taken, for a candidate without a truth."""
        for task in tasks:
            if task.candidate not in self.truths:
                raise BadInput(f"candidate {task.candidate}", "has no scores that raters could hear", "leave it out")
        self._tasks += tasks
        return [_task_id(task) for task in tasks]

    def pull(self, cursor: str | None) -> Page:
        """See `AnnotationClient.pull`; the cursor counts the tasks that were answered."""
        begin = int(cursor or 0)
        tasks = self._tasks[begin : begin + PAGE_TASKS]
        answers = tuple(self._annotation(rater, task) for task in tasks for rater in self.raters)
        return Page(answers, str(begin + len(tasks)), begin + len(tasks) < len(self._tasks))

    def _annotation(self, rater: Rater, task: Task) -> Annotation:
        at = (FIRST_TASK_AT + timedelta(seconds=task.index)).isoformat()
        return Annotation(
            id=f"{rater.name}/{task.candidate}",
            task=_task_id(task),
            scores=rate(rater, self.truths[task.candidate], task.index),
            state="submitted",
            lead_time_s=None,
            created_at=at,
            updated_at=at,
        )


def _task_id(task: Task) -> str:
    return f"simulated-{task.candidate}"
