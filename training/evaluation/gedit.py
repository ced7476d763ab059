"""A policy on GEdit-Bench: the folder of edits that its script reads, and its formula. Its table: `gedit_items`.

    write_edits(out / "my-policy", read_gedit(folder), edit, seed=0)
    result = evaluate_gedit(read_gedit(folder), saved_edits(out / "my-policy"), judge, policy="my-policy")

As commands: `training.evaluation.benchmark`.

What is established, from public sources (not from the data set itself, which is not at hand):

- its output layout (stepfun-ai/Step1X-Edit, GEdit-Bench/generate_image_example.py):
  MODEL/fullset/TASK/LANGUAGE/KEY.png, and KEY_SRCIMG.png with input_image beside it
- its 11 tasks and the order of means (the statistics script as Bagel's evaluation carries it on): O = sqrt(SC * PQ) for
  each item, means over the items of a task in one language, then over the tasks; the same over items with
  Intersection_exist
- SC and PQ are the lower of the judge's two scores each, 0..10, and the edit is resized to its source for the judge
  (its scoring script, and VIEScore as lmms-eval and others carry it)

Its script tries an unreadable answer again and again; here it is missing, and a task without any score makes the
overall figure missing. Position bias and ties do not arise: every edit is judged alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from runtime.bootstrap import Floats, Ints, group_index, resamples, weighted_means
from runtime.files import write_whole
from runtime.images import ImageU8, encode_image, pixels_sha256
from schemas.edit_benchmarks import GeditAnswer, GeditFigures, GeditResult
from schemas.errors import BadInput
from training.evaluation.edit_files import EditFunction, item_seed, missing_edits
from training.evaluation.edit_judge import EditedItem, EditJudge, ask_judge, at_size_of, has_fault, read_part, report_of
from training.evaluation.gedit_items import TASKS, GeditItem
from training.evaluation.intervals import interval_of, mean_over_kinds, number
from training.predictions import in_chunks

BOOTSTRAP_SAMPLES = 1000
CHUNK = 16


def write_edits(folder: Path, items: Iterable[GeditItem], edit: EditFunction, *, seed: int = 0) -> int:
    """Makes the edits that `folder` (MODEL in the layout) does not hold yet, each with its source beside it.

    CannotEdit leaves the item out. Returns: how many it made.
    """

    def edit_item(item: GeditItem) -> ImageU8:
        return edit(item.raw, item.instruction, item_seed(seed, item.key))

    made = 0
    for item, path, image in missing_edits(folder, items, edit_item):
        write_whole(path.with_name(f"{item.key}_SRCIMG.png"), encode_image(item.source, "png"))
        write_whole(path, encode_image(image, "png"))
        made += 1
    return made


@dataclass(frozen=True)
class _Judged:
    """Items without their pixels, with what was read of their answers; None where there was no edit."""

    item: GeditItem
    group: str
    parts: tuple[tuple[float, ...] | str, tuple[float, ...] | str] | None


def evaluate_gedit(
    items: Iterable[GeditItem],
    edited: Callable[[GeditItem], ImageU8 | None],
    judge: EditJudge,
    *,
    policy: str,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> GeditResult:
    """The figures of a policy's edits by GEdit's formula, with 95 % intervals over source images.

    Raises: BadInput as `items` and `edited`; ValueError where the judge answers more or fewer than it is asked.
    """
    judged = [one for chunk in in_chunks(items, CHUNK) for one in _judge(chunk, edited, judge)]
    answers = tuple(_answer(one) for one in judged)
    if not answers:
        raise BadInput("GEdit-Bench", "has no items", "give the folder of its Parquet files")
    groups = group_index([answer.group for answer in answers])
    weights = resamples(int(groups.max()) + 1, bootstrap_samples, seed)
    tables = _Tables(answers, groups, weights)
    chosen = {name: tables.of_task(name) for name in TASKS}
    read = [one.parts for one in judged if one.parts is not None]
    return GeditResult(
        policy=policy,
        language=answers[0].language,
        report=report_of(judge, read, len(judged) - len(read), len(judged)),
        overall=tables.over_tasks(intersection=False),
        intersection=tables.over_tasks(intersection=True),
        tasks=chosen,
        tasks_missing=tuple(name for name, figures in chosen.items() if not figures.n),
        bootstrap_samples=bootstrap_samples,
        answers=answers,
    )


def _judge(
    items: Sequence[GeditItem], edited: Callable[[GeditItem], ImageU8 | None], judge: EditJudge
) -> Iterator[_Judged]:
    images = [edited(item) for item in items]
    asked = [
        None
        if image is None
        else EditedItem(item.key, item.task, item.instruction, item.source, at_size_of(image, item.source))
        for item, image in zip(items, images, strict=True)
    ]
    for item, answer in zip(items, ask_judge(judge, asked), strict=True):
        parts = None
        if answer is not None:
            parts = read_part(answer, "semantics", 2, 0, 10), read_part(answer, "quality", 2, 0, 10)
        yield _Judged(_without_pixels(item), pixels_sha256(item.source), parts)


def _without_pixels(item: GeditItem) -> GeditItem:
    nothing = np.zeros((1, 1, 3), dtype=np.uint8)
    return GeditItem(item.task, item.key, item.instruction, item.language, item.intersection, nothing, nothing)


def _answer(one: _Judged) -> GeditAnswer:
    """SC, PQ and O of an item; all missing where one part is, as the three means shall rest on the same items."""
    semantics = quality = None
    if one.parts is not None and not has_fault(one.parts):
        semantics, quality = (min(float(score) for score in part) for part in one.parts)
    return GeditAnswer(
        key=one.item.key,
        task=one.item.task,
        language=one.item.language,
        group=one.group,
        intersection=one.item.intersection,
        semantics=semantics,
        quality=quality,
        overall=None if semantics is None or quality is None else sqrt(semantics * quality),
    )


@dataclass(frozen=True)
class _Tables:
    """What figures are made of. groups: index of each answer's source; weights: (B, sources)."""

    answers: Sequence[GeditAnswer]
    groups: Ints
    weights: Floats

    def of_task(self, task: str, *, intersection: bool = False) -> GeditFigures:
        """The figures of one task."""
        rows = self._rows(task, intersection)
        semantics, quality, overall = (interval_of(means) for means in self._means(rows))
        return GeditFigures(
            n_items=len(rows), n=self._judged(rows), semantics=semantics, quality=quality, overall=overall
        )

    def over_tasks(self, *, intersection: bool) -> GeditFigures:
        """Means over the 11 tasks; missing where one of them has no score."""
        rows = [self._rows(task, intersection) for task in TASKS]
        means = [self._means(one) for one in rows]
        semantics, quality, overall = (mean_over_kinds([mean[part] for mean in means]) for part in range(3))
        every = [place for one in rows for place in one]
        return GeditFigures(
            n_items=len(every),
            n=self._judged(every),
            semantics=interval_of(semantics),
            quality=interval_of(quality),
            overall=interval_of(overall),
        )

    def _rows(self, task: str, intersection: bool) -> list[int]:
        return [
            place
            for place, answer in enumerate(self.answers)
            if answer.task == task and (answer.intersection or not intersection)
        ]

    def _judged(self, rows: Sequence[int]) -> int:
        return sum(self.answers[place].overall is not None for place in rows)

    def _means(self, rows: Sequence[int]) -> tuple[Floats, Floats, Floats]:
        """Means (B,) of SC, PQ and O."""
        chosen = [self.answers[place] for place in rows]
        weights = self.weights[:, self.groups[np.array(rows, dtype=np.int64)]]
        columns = ([a.semantics for a in chosen], [a.quality for a in chosen], [a.overall for a in chosen])
        semantics, quality, overall = (
            weighted_means(np.array([number(value) for value in column], dtype=np.float64), weights)
            for column in columns
        )
        return semantics, quality, overall
