"""Who judges edits for GEdit-Bench and ImgEdit-Bench: any judge behind a Protocol, a file of scores, or a reward.

An answer has named parts, each a list of scores as the benchmark asks for them: `semantics` and `quality` (two of 0..10
each) for GEdit, `scores` (three of 1..5) for ImgEdit. What is absent, malformed or out of range is missing, with its
reason; nothing is guessed and nothing imputed.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log2
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from runtime.images import ImageU8
from schemas.edit_benchmarks import JudgeCoverage
from schemas.errors import BadInput
from schemas.score import SCORE_MAX
from training.predictions import as_points
from training.reward_protocol import Predicted, Prediction, Reward, RewardQuery

LINE_MAX_BYTES = 1_000_000
Answer = Mapping[str, object]


@dataclass(frozen=True)
class EditedItem:
    """One edit to judge. source, edited: HWC uint8 RGB; kind: its task or edit type."""

    key: str
    kind: str
    instruction: str
    source: ImageU8
    edited: ImageU8


class EditJudge(Protocol):
    """Judges edits. name: what stands in the result; synthetic: no real judge."""

    name: str
    synthetic: bool

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        """One answer per item, in order: part -> list of scores; a part that is not there is missing."""
        ...


def ask_judge(judge: EditJudge, items: Sequence[EditedItem | None]) -> list[Answer | None]:
    """One answer per item, None where there is none to judge.

    Raises: ValueError where the judge answers more or fewer than it is asked.
    """
    asked = [item for item in items if item is not None]
    answers = judge.judge(asked) if asked else []
    if len(answers) != len(asked):
        raise ValueError(f"judge {judge.name} gave {len(answers)} answers to {len(asked)} edits")
    rest = iter(answers)
    return [None if item is None else next(rest) for item in items]


def read_part(answer: Answer, part: str, count: int, low: float, high: float) -> tuple[float, ...] | str:
    """The `count` scores of a part, or why they are missing: `absent`, `malformed`, `out_of_range`."""
    given = answer.get(part)
    if given is None:
        return "absent"
    if not isinstance(given, list | tuple) or len(given) != count:
        return "malformed"
    if any(isinstance(score, bool) or not isinstance(score, int | float) or not isfinite(score) for score in given):
        return "malformed"
    return tuple(float(score) for score in given) if all(low <= score <= high for score in given) else "out_of_range"


class ScoreFile:
    """A judge whose answers stand in a JSONL file: `{"key": "...", "semantics": [7, 9], "quality": [8, 6]}`."""

    def __init__(self, path: Path, *, synthetic: bool = False) -> None:
        self.name, self.synthetic = path.name, synthetic
        self._answers = _read_answers(path)

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        """As `EditJudge.judge`; nothing for a key that the file does not have."""
        return [self._answers.get(item.key, {}) for item in items]


def _read_answers(path: Path) -> dict[str, Answer]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {type(error).__name__}", "give a JSONL file of scores") from None
    answers: dict[str, Answer] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        thing = f"{path.name} line {number}"
        try:
            found = json.loads(line) if len(line) <= LINE_MAX_BYTES else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("key"), str):
            raise BadInput(thing, "is no JSON object with a key", 'write {"key": "...", ...} on each line')
        if found["key"] in answers:
            raise BadInput(thing, f"has the key {found['key'][:80]} again", "give every item one line")
        answers[found["key"]] = found
    return answers


class RewardJudge:
    """Any reward (`endpoint:URL`, too) as a judge, by its scores of the whole image, 0..25.

    parts: what is made of them, `gedit_parts` or `imgedit_parts`. The benchmarks' own prompts ask otherwise, so the
    figures do not stand beside published ones. Edits are brought to their source's size.
    """

    def __init__(self, reward: Reward, parts: Callable[[Prediction], Answer], *, synthetic: bool) -> None:
        self._reward, self._parts, self.synthetic = reward, parts, synthetic
        self.name = f"{reward.name}@{reward.revision}"

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        """As `EditJudge.judge`."""
        queries = [
            RewardQuery(item.source, at_size_of(item.edited, item.source), item.instruction, {}) for item in items
        ]
        return [self._parts(prediction) for prediction in self._reward.score(queries)]


def gedit_parts(found: Prediction) -> Answer:
    """SC from success and overedit, PQ from naturalness and artifacts: 0..25 divided by 2.5."""
    semantics, quality = (found.success, found.overedit), (found.naturalness, found.artifacts)
    return {
        "semantics": _scaled(semantics, 0, 10),
        "quality": _scaled(quality, 0, 10),
    }


def imgedit_parts(found: Prediction) -> Answer:
    """Compliance from success, seamlessness from artifacts, fidelity from overedit: 1 + 4 s / 25 (own)."""
    return {"scores": _scaled((found.success, found.artifacts, found.overedit), 1, 5)}


def _scaled(scores: Sequence[Predicted], low: float, high: float) -> list[float] | None:
    """The scores on another scale; None where one is missing or out of range."""
    if any(as_points(score) is None for score in scores):
        return None
    return [low + (high - low) * (score.mean or 0.0) / SCORE_MAX for score in scores]


def at_size_of(edited: ImageU8, source: ImageU8) -> ImageU8:
    """`edited` in the size of `source`: Pillow's bicubic, which GEdit's script resizes with."""
    if edited.shape == source.shape:
        return edited
    size = (source.shape[1], source.shape[0])
    return np.array(Image.fromarray(edited, "RGB").resize(size, Image.Resampling.BICUBIC))


def entropy_bits(scores: Sequence[float]) -> float | None:
    """Entropy of the single scores given, each to one decimal; None without any."""
    counts = Counter(round(score, 1) for score in scores)
    total = counts.total()
    if not total:
        return None
    return max(0.0, -sum(count / total * log2(count / total) for count in counts.values()))


def report_of(
    judge: EditJudge, read: Sequence[Sequence[tuple[float, ...] | str]], not_edited: int, n_items: int
) -> JudgeCoverage:
    """What `judge` gave. read: the parts of each item that was judged; an item counts its first fault."""
    faults = Counter(next(part for part in parts if isinstance(part, str)) for parts in read if has_fault(parts))
    given = [score for parts in read for part in parts if not isinstance(part, str) for score in part]
    whole = len(read) - faults.total()
    return JudgeCoverage(
        judge=judge.name,
        synthetic=judge.synthetic,
        coverage=whole / n_items if n_items else None,
        missing=dict(sorted(faults.items())),
        not_edited=not_edited,
        entropy_bits=entropy_bits(given),
    )


def has_fault(parts: Sequence[tuple[float, ...] | str]) -> bool:
    """Whether a part of an answer is missing."""
    return any(isinstance(part, str) for part in parts)
