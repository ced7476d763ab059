"""A reward's prediction as the scores of one more rater, so that consensus and agreement treat it like any other."""

from collections.abc import Iterable
from math import floor, isfinite

from pydantic import ValidationError

from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.score import SCORE_MAX, CandidateScore, RegionScore
from training.reward.protocol import Predicted, Prediction

RATER_PREFIX = "model:"


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
    mean = predicted.mean
    if mean is None or not isfinite(mean) or not 0 <= mean <= SCORE_MAX:
        return None
    return floor(mean + 0.5)


def every_score(prediction: Prediction) -> list[Predicted]:
    """All scores of a prediction: two per region in their order, then the five of the image."""
    regions = [score for region in prediction.regions.values() for score in (region.success, region.preserve)]
    image = (prediction.background, prediction.success, prediction.overedit)
    return [*regions, *image, prediction.naturalness, prediction.artifacts]


def coverage(predictions: Iterable[Prediction]) -> float | None:
    """The share (0..1) of all scores that are there and in range; None where there is nothing to count."""
    points = [as_points(score) for prediction in predictions for score in every_score(prediction)]
    return sum(point is not None for point in points) / len(points) if points else None
