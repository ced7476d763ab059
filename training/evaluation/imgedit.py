"""A policy on ImgEdit-Bench basic: its published metadata, the folder of edits that its script reads, its formula.

    items = read_imgedit(folder / "basic_edit.json", folder / "singleturn")
    write_edits(out / "my-policy", items, edit, seed=0)
    result = evaluate_imgedit(items, saved_edits(out / "my-policy"), judge, policy="my-policy")

As commands: `training.evaluation.benchmark`.

What is established, from PKU-YuanGroup/ImgEdit, Benchmark/Basic (not from the images, which are not at hand here):

- `basic_edit.json`: {KEY: {"id": "animal/000342021.jpg", "prompt": ..., "edit_type": ...}}, `id` below the folder of
  originals; types seen: add, alter (adjust in its readme), extract, replace, remove, background, style, compose, action
- edits lie flat in one folder as KEY.png; the judge's texts in `result.json` there: {KEY: text}, a line `NAME: SCORE`
  for each score (basic_bench.py and its readme); `OfficialAnswers` reads that file
- step1_get_avgscore.py: the mean of all lines that end in `: ` and digits, rounded to two places, whatever their number
  and range; step2_typescore.py: the mean of these by type, rounded again

Here an item has a mean only with exactly three scores of 1..5, else it is missing. The scripts stop at types; `overall`
is the mean over types and `per_item` the mean over items. Position bias and ties do not arise: every edit is alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch

import numpy as np

from pipeline.requests.files import read_outside_image
from runtime.bootstrap import Floats, group_index, resamples, weighted_means
from runtime.files import write_whole
from runtime.images import MAX_FILE_BYTES, BadImage, ImageU8, encode_image
from schemas.edit_benchmarks import ImgeditAnswer, ImgeditFigures, ImgeditResult
from schemas.errors import BadInput
from schemas.request import INSTRUCTION_MAX_CHARS
from training.evaluation.edit_files import EditFunction, item_seed, missing_edits
from training.evaluation.edit_judge import Answer, EditedItem, EditJudge, ask_judge, read_part, report_of
from training.evaluation.intervals import interval_of, mean_over_kinds, number
from training.predictions import in_chunks

N_SCORES = 3
BOOTSTRAP_SAMPLES = 1000
CHUNK = 16
_FIELDS = ("id", "prompt", "edit_type")


@dataclass(frozen=True)
class ImgeditItem:
    """One item. image: its original, a path below `images`."""

    key: str
    edit_type: str
    instruction: str
    image: str
    images: Path

    @property
    def place(self) -> str:
        """Where its edit lies in a policy's folder."""
        return f"{self.key}.png"

    def source(self) -> ImageU8:
        """The original, HWC uint8 RGB. Raises: BadInput where it is not there, no image, or outside the folder."""
        try:
            return read_outside_image(self.images, self.image)
        except BadImage as error:
            fault = f"has an original that cannot be used: {error.detail}"
            raise BadInput(f"item {self.key}", fault, "unpack the benchmark's originals there") from None


def read_imgedit(metadata: Path, images: Path) -> list[ImgeditItem]:
    """The items that `basic_edit.json` lists, in its order. Raises: BadInput, naming the item at fault."""
    found = _object(metadata)
    if not found:
        raise BadInput(metadata.name, "lists no item", "give the benchmark's basic_edit.json")
    return [_item(key, fields, metadata.name, images) for key, fields in found.items()]


def _object(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(path.name, f"is longer than {MAX_FILE_BYTES} bytes", "give the published file")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(path.name, f"is not JSON: {type(error).__name__}", "give the published file") from None
    if not isinstance(found, dict):
        raise BadInput(path.name, "is JSON but not an object", "give the published file")
    return found


def _item(key: str, fields: object, name: str, images: Path) -> ImgeditItem:
    thing = f"{name}, item {key[:40]!r}"
    if not fullmatch(r"[A-Za-z0-9_-]{1,120}", key):
        raise BadInput(thing, "has a key that is no file name", "keys are letters, digits, - and _")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(field), str) for field in _FIELDS):
        raise BadInput(thing, "has no id, prompt and edit_type as text", "give the published file")
    image, prompt, edit_type = (fields[field] for field in _FIELDS)
    if not prompt.strip() or len(prompt) > INSTRUCTION_MAX_CHARS:
        raise BadInput(thing, "has no prompt, or one that is too long", "give the published file")
    if not fullmatch(r"[A-Za-z_-]{1,40}", edit_type):
        raise BadInput(thing, f"has the edit type {edit_type[:40]!r}", "give the published file")
    return ImgeditItem(key, edit_type, prompt, image, images)


def write_edits(folder: Path, items: Iterable[ImgeditItem], edit: EditFunction, *, seed: int = 0) -> int:
    """Makes the edits that `folder` does not hold yet; CannotEdit leaves an item out. Returns: how many it made."""

    def edit_item(item: ImgeditItem) -> ImageU8:
        return edit(item.source(), item.instruction, item_seed(seed, item.key))

    made = 0
    for _, path, image in missing_edits(folder, items, edit_item):
        write_whole(path, encode_image(image, "png"))
        made += 1
    return made


class OfficialAnswers:
    """A judge whose texts stand in the official script's `result.json`."""

    synthetic = False

    def __init__(self, path: Path) -> None:
        self.name, self._texts = path.name, _object(path)

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        """As `EditJudge.judge`."""
        return [scores_in(self._texts.get(item.key)) for item in items]


def scores_in(text: object) -> Answer:
    """The scores in a judge's text, by the official reading: every line `NAME: DIGITS`. Nothing for no such line."""
    if not isinstance(text, str):
        return {}
    halves = (line.strip().split(": ") for line in text.splitlines())
    found = [int(half[1]) for half in halves if len(half) == 2 and half[1].isascii() and half[1].isdigit()]
    return {"scores": found} if found else {}


def evaluate_imgedit(
    items: Sequence[ImgeditItem],
    edited: Callable[[ImgeditItem], ImageU8 | None],
    judge: EditJudge,
    *,
    policy: str,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> ImgeditResult:
    """The figures of a policy's edits by ImgEdit's formula, with 95 % intervals over source images.

    Raises: BadInput as the readers, or without items; ValueError where the judge does not give one answer per item.
    """
    if not items:
        raise BadInput("ImgEdit-Bench", "has no items", "give its basic_edit.json")
    read = [part for chunk in in_chunks(items, CHUNK) for part in _judged(chunk, edited, judge)]
    answers = tuple(_answer(item, part) for item, part in zip(items, read, strict=True))
    groups = group_index([answer.group for answer in answers])
    weights = resamples(int(groups.max()) + 1, bootstrap_samples, seed)[:, groups]
    means = np.array([number(answer.mean) for answer in answers], dtype=np.float64)
    types = {name: [a.edit_type == name for a in answers] for name in sorted({a.edit_type for a in answers})}
    by_type = {name: weighted_means(means[chosen], weights[:, chosen]) for name, chosen in types.items()}
    return ImgeditResult(
        policy=policy,
        report=report_of(judge, [[part] for part in read if part is not None], read.count(None), len(items)),
        overall=interval_of(mean_over_kinds(list(by_type.values()))),
        per_item=interval_of(weighted_means(means, weights)),
        types={name: _figures(answers, name, by_type[name]) for name in types},
        over_first=sum(a.scores is not None and max(a.scores[1:]) > a.scores[0] for a in answers),
        bootstrap_samples=bootstrap_samples,
        answers=answers,
    )


def _judged(
    items: Sequence[ImgeditItem], edited: Callable[[ImgeditItem], ImageU8 | None], judge: EditJudge
) -> Iterator[tuple[float, ...] | str | None]:
    """For each item its three scores, why there are none, or None without an edit."""
    images = [edited(item) for item in items]
    asked = [
        None if image is None else EditedItem(item.key, item.edit_type, item.instruction, item.source(), image)
        for item, image in zip(items, images, strict=True)
    ]
    for answer in ask_judge(judge, asked):
        yield None if answer is None else read_part(answer, "scores", N_SCORES, 1, 5)


def _answer(item: ImgeditItem, part: tuple[float, ...] | str | None) -> ImgeditAnswer:
    scores = None if part is None or isinstance(part, str) else (part[0], part[1], part[2])
    return ImgeditAnswer(
        key=item.key,
        edit_type=item.edit_type,
        group=item.image,
        instruction=item.instruction,
        scores=scores,
        mean=None if scores is None else sum(scores) / N_SCORES,
    )


def _figures(answers: Iterable[ImgeditAnswer], name: str, means: Floats) -> ImgeditFigures:
    own = [answer for answer in answers if answer.edit_type == name]
    rounded = [round(answer.mean, 2) for answer in own if answer.mean is not None]
    official = round(sum(rounded) / len(rounded), 2) if rounded else None
    return ImgeditFigures(n_items=len(own), n=len(rounded), mean=interval_of(means), official=official)
