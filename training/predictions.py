"""A reward's predictions: asked for in chunks, read score by score, and turned into the scores of one more rater.

A score that is missing, not finite or outside 0..25 is missing to all of these functions, and is never filled in.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import floor, isfinite
from typing import TypeVar

from pydantic import ValidationError

from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.reward import BACKGROUND
from schemas.score import SCORE_MAX, CandidateScore, RegionScore, minimum, region_reward
from training.reward_protocol import Predicted, Prediction, Reward, RewardQuery

RATER_PREFIX = "model:"
CHUNK = 64
WHOLE_IMAGE_SCORES = ("success", "overedit", "naturalness", "artifacts")
MISSING = Predicted(None)
Asked = TypeVar("Asked")


def in_chunks(items: Iterable[Asked], size: int) -> Iterator[list[Asked]]:
    """`items` in lists of `size`, the last one maybe shorter; no more of them in memory at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def ask(reward: Reward, queries: Sequence[RewardQuery]) -> list[Prediction]:
    """One prediction per query, asked in chunks. Raises: ValueError where the reward answers more or fewer."""
    answers: list[Prediction] = []
    for start in range(0, len(queries), CHUNK):
        chunk = queries[start : start + CHUNK]
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


def every_score(prediction: Prediction, query: RewardQuery) -> dict[tuple[str, str], Predicted]:
    """(dimension, place) -> score, for every score that `query` asks for; place is '' for the whole image."""
    scores: dict[tuple[str, str], Predicted] = {}
    for key in query.masks:
        region = prediction.regions.get(key)
        scores["success", key] = usable(region.success) if region else MISSING
        scores["preserve", key] = usable(region.preserve) if region else MISSING
    scores["background", BACKGROUND] = usable(prediction.background)
    return scores | {(name, ""): usable(getattr(prediction, name)) for name in WHOLE_IMAGE_SCORES}


def count_missing(
    predictions: Sequence[Prediction], queries: Sequence[RewardQuery]
) -> tuple[float | None, dict[str, int]]:
    """(share of the scores asked for that were given, dimension -> how many were missing)."""
    asked, missing = 0, Counter[str]()
    for prediction, query in zip(predictions, queries, strict=True):
        scores = every_score(prediction, query)
        asked += len(scores)
        missing.update(
            name if place != "" else f"image {name}" for (name, place), score in scores.items() if score.mean is None
        )
    return (1 - missing.total() / asked if asked else None), dict(sorted(missing.items()))


def candidate_score(prediction: Prediction, *, candidate: str, reward_name: str, synthetic: bool) -> CandidateScore:
    """`prediction` of the candidate with this id, as integer scores 0..25 by rater `model:<reward_name>`.

    Regions keep their order. synthetic: whether the reward is an embedded stand-in and no real judge. A rater gives
    integers, so means are rounded (half up) and their uncertainty is left behind; what is missing, not finite or
    outside 0..25 stays missing. Raises: BadInput where a region's key or the name does not fit the record.
    """
    try:
        return CandidateScore(
            candidate=candidate,
            rater=f"{RATER_PREFIX}{reward_name}",
            synthetic=synthetic,
            regions=tuple(
                RegionScore(region=key, success=as_points(region.success), preserve=as_points(region.preserve))
                for key, region in prediction.regions.items()
            ),
            background=as_points(prediction.background),
            success=as_points(prediction.success),
            overedit=as_points(prediction.overedit),
            naturalness=as_points(prediction.naturalness),
            artifacts=as_points(prediction.artifacts),
        )
    except ValidationError as error:
        raise BadInput(f"the scores of reward {reward_name!r}", first_fault(error), "give ids of the dataset") from None


def as_points(predicted: Predicted) -> int | None:
    """The score as an integer 0..25, rounded half up; None where it is missing, not finite or out of range."""
    mean = usable(predicted).mean
    return None if mean is None else floor(mean + 0.5)
