"""Reads what a judge wrote: every score an integer 0..25 or missing with its reason. Nothing is repaired or guessed.

An answer is one JSON object of places (`R1`, `R2`, ..., or `image`), each an object of scores:
`{"R1": {"seen": "...", "success": 19, "preserve": 25}}`. Words around that object are tolerated as long as no second
object and no broken one stands beside it: half an object might be any object.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.score import SCORE_MAX

#: Why an answer as a whole has no scores.
AnswerFault = Literal["no_json", "half_json", "several_json"]
#: Why one score is missing from a readable answer. declined: null. malformed: a place that is no object.
ScoreFault = Literal["absent", "declined", "malformed", "not_an_integer", "out_of_range", "duplicate"]
SEEN_MAX_CHARS = 500


@dataclass(frozen=True)
class ParsedAnswer:
    """The scores in one answer of a judge, and those that it lacks.

    scores, missing: (place, score name) -> 0..25, or why there is none; together they are what was asked.

    unknown_places: places nobody asked for, dropped. seen: the judge's words on each place, at most 500 characters.
    """

    scores: Mapping[tuple[str, str], int]
    missing: Mapping[tuple[str, str], str]
    unknown_places: int = 0
    seen: Mapping[str, str] = field(default_factory=dict)


class _Duplicate:
    """Stands where a key was written twice: neither value is more right than the other."""


_DUPLICATE = _Duplicate()


def all_missing(asked: Mapping[str, tuple[str, ...]], reason: str) -> ParsedAnswer:
    """The reading of a call that brought nothing: each score asked for (place -> names) is missing for `reason`."""
    return ParsedAnswer({}, {(place, name): reason for place, names in asked.items() for name in names})


def read_answer(text: str, asked: Mapping[str, tuple[str, ...]]) -> ParsedAnswer:
    """The scores in `text` that were asked for (place -> score names); everything else is missing with its reason."""
    answer = _only_object(text)
    if isinstance(answer, str):
        return all_missing(asked, answer)
    scores: dict[tuple[str, str], int] = {}
    missing: dict[tuple[str, str], str] = {}
    for place, names in asked.items():
        for name in names:
            value = _value(answer, place, name)
            if isinstance(value, int):
                scores[place, name] = value
            else:
                missing[place, name] = value
    return ParsedAnswer(scores, missing, len(answer.keys() - asked.keys()), dict(_seen(answer, asked)))


def _only_object(text: str) -> dict[str, Any] | AnswerFault:
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)
    found: list[dict[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return "half_json"
        found.append(value)
        start = text.find("{", end)
    if not found:
        return "no_json"
    return found[0] if len(found) == 1 else "several_json"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        values[key] = _DUPLICATE if key in values else value
    return values


def _value(answer: Mapping[str, Any], place: str, name: str) -> int | ScoreFault:
    if place not in answer:
        return "absent"
    scores = answer[place]
    if scores is _DUPLICATE:
        return "duplicate"
    if not isinstance(scores, dict):
        return "malformed"
    return _score(scores[name]) if name in scores else "absent"


def _score(value: Any) -> int | ScoreFault:
    if value is None:
        return "declined"
    if value is _DUPLICATE:
        return "duplicate"
    if type(value) is not int:  # bool is an int to isinstance; 12.0 is a float to JSON's reader
        return "not_an_integer"
    return value if 0 <= value <= SCORE_MAX else "out_of_range"


def _seen(answer: Mapping[str, Any], asked: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for place in asked:
        scores = answer.get(place)
        words = scores.get("seen") if isinstance(scores, dict) else None
        if isinstance(words, str):
            yield place, words[:SEEN_MAX_CHARS]
