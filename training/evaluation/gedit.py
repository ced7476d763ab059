"""A policy on GEdit-Bench: its published table, the folder of edits that its script reads, and its formula.

    write_edits(out / "my-policy", read_gedit(folder), edit, seed=0)
    result = evaluate_gedit(read_gedit(folder), saved_edits(out / "my-policy"), judge, policy="my-policy")

As commands: `training.evaluation.benchmark`.

What is established, from public sources (not from the data set itself, which is not at hand here):

- the table's columns (stepfun-ai/Step1X-Edit, GEdit-Bench/generate_image_example.py): task_type, key, instruction,
  instruction_language, input_image, input_image_raw, Intersection_exist; as Hugging Face stores images in Parquet, an
  image is a struct with `bytes`
- its output layout (the same file): MODEL/fullset/TASK/LANGUAGE/KEY.png, and KEY_SRCIMG.png with input_image beside it
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
from re import fullmatch
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.editors.protocol import CannotEdit
from runtime.bootstrap import Floats, Ints, mean_over, resamples, weighted_means
from runtime.files import write_whole
from runtime.images import BadImage, ImageU8, decode_image, encode_image, pixels_sha256
from schemas.edit_benchmarks import GeditAnswer, GeditFigures, GeditResult
from schemas.errors import BadInput
from schemas.record import short_hash
from training.evaluation.edit_judge import (
    EditedItem,
    EditJudge,
    ask_judge,
    at_size_of,
    group_index,
    has_fault,
    interval_of,
    read_part,
    report_of,
)
from training.predictions import in_chunks

TASKS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change",
    "subject-add", "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
LANGUAGES = ("en", "cn")
COLUMNS = ("task_type", "key", "instruction", "instruction_language", "input_image", "input_image_raw")
INTERSECTION = "Intersection_exist"
BOOTSTRAP_SAMPLES = 1000
CHUNK = 16
Edit = Callable[[ImageU8, str, int], ImageU8]


@dataclass(frozen=True)
class GeditItem:
    """One item. source: what the judge sees; raw: what is edited; both HWC uint8 RGB."""

    task: str
    key: str
    instruction: str
    language: str
    intersection: bool
    source: ImageU8
    raw: ImageU8

    @property
    def place(self) -> str:
        """Where its edit lies in a policy's folder."""
        return f"fullset/{self.task}/{self.language}/{self.key}.png"


def read_gedit(folder: Path, language: str = "en") -> Iterator[GeditItem]:
    """The items of one language, in the order of the Parquet files below `folder`, one in memory at a time.

    Raises: BadInput, naming file and row, for what is not as published; for no item at all; for a key twice.
    """
    if language not in LANGUAGES:
        raise BadInput(f"language {language[:40]!r}", "is not in GEdit-Bench", f"choose from {', '.join(LANGUAGES)}")
    files = sorted(folder.rglob("*.parquet"))
    seen: set[str] = set()
    for path in files:
        for number, row in enumerate(_rows(path), 1):
            thing = f"{path.name} row {number}"
            if row.get("instruction_language") == language:
                item = _item(row, thing)
                if item.key in seen:
                    raise BadInput(thing, f"has the key {item.key} again", "download the data set anew")
                seen.add(item.key)
                yield item
    if not seen:
        fault = f"holds no GEdit item in {language}" if files else "holds no Parquet file"
        raise BadInput(str(folder), fault, "put the Parquet files of stepfun-ai/GEdit-Bench there")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
        lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if lacking:
            raise BadInput(path.name, f"has no column {lacking[0]}", "download the data set anew")
        wanted = [*COLUMNS, *([INTERSECTION] if INTERSECTION in file.schema_arrow.names else [])]
        for batch in file.iter_batches(batch_size=4, columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(path.name, f"is not Parquet: {type(error).__name__}", "download the data set anew") from None


def _item(row: dict[str, Any], thing: str) -> GeditItem:
    task, key, instruction = row["task_type"], row["key"], row["instruction"]
    if task not in TASKS:
        raise BadInput(thing, f"has the task {str(task)[:40]!r}", f"its tasks are {', '.join(TASKS)}")
    if not isinstance(key, str) or not fullmatch(r"[A-Za-z0-9_-]{1,120}", key):
        raise BadInput(thing, f"has the key {str(key)[:40]!r}", "keys are letters, digits, - and _")
    if not isinstance(instruction, str) or not instruction.strip():
        raise BadInput(thing, "has no instruction", "download the data set anew")
    source, raw = (_image(row[name], f"{thing}, {name}") for name in ("input_image", "input_image_raw"))
    language = row["instruction_language"]
    return GeditItem(task, key, instruction, language, bool(row.get(INTERSECTION)), source, raw)


def _image(cell: Any, thing: str) -> ImageU8:
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise BadInput(thing, "has no bytes", "download the data set with its images")
    try:
        return decode_image(data)
    except BadImage as error:
        raise BadInput(thing, f"is no image: {error.detail}", "download the data set anew") from None


def write_edits(folder: Path, items: Iterable[GeditItem], edit: Edit, *, seed: int = 0) -> int:
    """Makes the edits that `folder` (MODEL in the layout) does not hold yet, each with its source beside it.

    edit: (source HWC uint8, instruction, seed) -> image; CannotEdit leaves the item out. Returns: how many it made.
    """
    made = 0
    for item in items:
        path = folder / item.place
        if path.is_file():
            continue
        try:
            image = edit(item.raw, item.instruction, item_seed(seed, item.key))
        except CannotEdit:
            continue
        write_whole(path.with_name(f"{item.key}_SRCIMG.png"), encode_image(item.source, "png"))
        write_whole(path, encode_image(image, "png"))
        made += 1
    return made


def item_seed(seed: int, key: str) -> int:
    """The seed of an item's edit, below 2^31; the same whatever was edited before."""
    return int(short_hash("edit benchmark", seed, key), 16) % 2**31


def saved_edits(folder: Path) -> Callable[[GeditItem], ImageU8 | None]:
    """The edits that lie in `folder`; None for one that is not there. Raises: BadInput for one that is no image."""

    def read(item: GeditItem) -> ImageU8 | None:
        return read_edit(folder, item.place)

    return read


def read_edit(folder: Path, place: str) -> ImageU8 | None:
    """The edit at `place` below `folder`, None where there is none. Raises: BadInput."""
    try:
        return decode_image((folder / place).read_bytes()) if (folder / place).is_file() else None
    except (BadImage, OSError) as error:
        raise BadInput(place, f"is no image: {error}"[:200], "remove it and edit anew") from None


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
        semantics, quality, overall = (_whole([mean[part] for mean in means]) for part in range(3))
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
            weighted_means(np.array([np.nan if v is None else v for v in column], dtype=np.float64), weights)
            for column in columns
        )
        return semantics, quality, overall


def _whole(tasks: list[Floats]) -> Floats:
    """The mean over tasks, NaN where the data as it is lacks one; a resample may lack one and goes without it."""
    means = mean_over(tasks)
    if any(np.isnan(task[0]) for task in tasks):
        return np.full_like(means, np.nan)
    return means
