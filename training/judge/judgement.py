"""From a judge's answers to one edited image's prediction: labels, readings, and what is missing. Pure functions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.models.chat_http import Completion
from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.judge.parse import ParsedAnswer, all_missing, read_answer
from training.judge.prompt import IMAGE_PLACE, Call
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery


@dataclass(frozen=True)
class Judgement:
    """One edited image judged. missing: (score, reason) -> how many; seen: the judge's words on each region, by key.

    seen_image: its words on the whole.
    """

    prediction: Prediction
    missing: Mapping[tuple[str, str], int]
    seen: Mapping[str, str]
    seen_image: str = ""


def number_regions(query: RewardQuery) -> dict[str, str]:
    """Label R1, R2, ... -> region key, in the query's order; a region with an empty mask has no label."""
    keys = [key for key, mask in query.masks.items() if mask.any()]
    return {f"R{number}": key for number, key in enumerate(keys, start=1)}


def read_call(completion: Completion, call: Call) -> ParsedAnswer:
    """The scores in a completion; one that was refused or cut short has none."""
    if completion.text is None:
        return all_missing(call.asked, "declined")
    reading = read_answer(completion.text, call.asked)
    if completion.cut_short and set(reading.missing.values()) & {"half_json", "no_json"}:
        return all_missing(call.asked, "cut_short")
    return reading


def by_key(reading: ParsedAnswer, labels: Mapping[str, str]) -> ParsedAnswer:
    """The reading with region keys in place of labels."""
    return ParsedAnswer(
        {(labels[label], name): score for (label, name), score in reading.scores.items()},
        {(labels[label], name): reason for (label, name), reason in reading.missing.items()},
        reading.unknown_places,
        {labels[label]: words for label, words in reading.seen.items()},
    )


def assemble(query: RewardQuery, regions: Sequence[ParsedAnswer], image: ParsedAnswer) -> Judgement:
    """The judgement that the readings of a query's regions (places are keys) and of its image make."""
    scores = {place: score for reading in regions for place, score in reading.scores.items()}
    seen = {key: words for reading in regions for key, words in reading.seen.items()}
    prediction = Prediction(
        regions={
            key: RegionPrediction(*(_predicted(scores.get((key, name))) for name in REGION_SCORES))
            for key in query.masks
        },
        **{name: _predicted(image.scores.get((IMAGE_PLACE, name))) for name in IMAGE_SCORES},
    )
    missing = Counter(
        (f"region {name}", reason) for reading in regions for (_, name), reason in reading.missing.items()
    )
    missing.update((name, reason) for (_, name), reason in image.missing.items())
    return Judgement(prediction, missing, seen, image.seen.get(IMAGE_PLACE, ""))


def _predicted(score: int | None) -> Predicted:
    return Predicted(None if score is None else float(score))
