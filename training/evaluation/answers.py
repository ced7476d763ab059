"""What a reward answers to the questions of test cases; a missing score stays missing and is counted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import TypeVar

from schemas.reward import BACKGROUND
from schemas.score import SCORE_MAX, minimum, region_reward
from training.reward.protocol import Predicted, Prediction, Question, Reward

CHUNK = 64
WHOLE = ("success", "overedit", "naturalness", "artifacts")
MISSING = Predicted(None)
Asked = TypeVar("Asked")


def in_chunks(items: Iterable[Asked], size: int) -> Iterator[list[Asked]]:
    """`items` in lists of `size`, the last one maybe shorter; no more of them in memory at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def ask(reward: Reward, questions: Sequence[Question]) -> list[Prediction]:
    """One prediction per question, asked in chunks. Raises: ValueError where the reward answers more or fewer."""
    answers: list[Prediction] = []
    for start in range(0, len(questions), CHUNK):
        chunk = questions[start : start + CHUNK]
        answered = reward.score(chunk)
        if len(answered) != len(chunk):
            raise ValueError(f"reward {reward.name} gave {len(answered)} answers to {len(chunk)} questions")
        answers += answered
    return answers


def usable(score: Predicted) -> Predicted:
    """`score`, or missing where its mean is no number in 0..25; an unusable std is unknown."""
    if score.mean is None or not isfinite(score.mean) or not 0 <= score.mean <= SCORE_MAX:
        return MISSING
    known = score.std is not None and isfinite(score.std) and score.std >= 0
    return score if known or score.std is None else Predicted(score.mean)


def phi_of(prediction: Prediction, place: str) -> Predicted:
    """phi of a region, or the background's score: the lower of two scores with its own std; missing where one is."""
    if place == BACKGROUND:
        return usable(prediction.background)
    region = prediction.regions.get(place)
    if region is None:
        return MISSING
    success, preserve = usable(region.success), usable(region.preserve)
    if success.mean is None or preserve.mean is None:
        return MISSING
    return success if success.mean <= preserve.mean else preserve


def mean_reward(prediction: Prediction, places: Iterable[str]) -> float | None:
    """The mean of R_r over `places`, in [0, 1]; missing where one of them is."""
    aesthetics = minimum(usable(prediction.naturalness).mean, usable(prediction.artifacts).mean)
    rewards = [region_reward(phi_of(prediction, place).mean, aesthetics) for place in places]
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known and len(known) == len(rewards) else None


def every_score(prediction: Prediction, question: Question) -> dict[tuple[str, str], Predicted]:
    """(dimension, place) -> score, for every score that `question` asks for; place is '' for the whole image."""
    scores: dict[tuple[str, str], Predicted] = {}
    for key in question.masks:
        region = prediction.regions.get(key)
        scores["success", key] = usable(region.success) if region else MISSING
        scores["preserve", key] = usable(region.preserve) if region else MISSING
    scores["background", BACKGROUND] = usable(prediction.background)
    return scores | {(name, ""): usable(getattr(prediction, name)) for name in WHOLE}


def count_missing(
    predictions: Sequence[Prediction], questions: Sequence[Question]
) -> tuple[float | None, dict[str, int]]:
    """(share of the scores asked for that were given, dimension -> how many were missing)."""
    asked, missing = 0, Counter[str]()
    for prediction, question in zip(predictions, questions, strict=True):
        scores = every_score(prediction, question)
        asked += len(scores)
        missing.update(
            name if place != "" else f"image {name}" for (name, place), score in scores.items() if score.mean is None
        )
    return (1 - missing.total() / asked if asked else None), dict(sorted(missing.items()))
