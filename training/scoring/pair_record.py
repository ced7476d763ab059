"""A reward's prediction for one pair as the record that `regionwise score` prints."""

from runtime.masks import mask_box
from schemas.reward import PredictedScore, ScoredPair, ScoredRegion
from schemas.score import minimum, region_reward
from training.predictions import every_score, phi_of, usable
from training.reward_protocol import Predicted, Prediction
from training.scoring.pairs import Pair


def scored_pair(pair: Pair, prediction: Prediction, rater: str) -> ScoredPair:
    """All scores of a pair, phi and region reward computed; what is missing or no score is null, never filled in."""
    aesthetics = minimum(usable(prediction.naturalness).mean, usable(prediction.artifacts).mean)
    scores = every_score(prediction, pair.query)
    height, width = pair.query.edited.shape[:2]
    regions = tuple(
        ScoredRegion(
            region=key,
            label=pair.labels[key],
            origin=pair.origin,
            box=mask_box(mask),
            area_px=int(mask.sum()),
            success=_record(scores["success", key]),
            preserve=_record(scores["preserve", key]),
            phi=phi_of(prediction, key).mean,
            reward=region_reward(phi_of(prediction, key).mean, aesthetics),
        )
        for key, mask in pair.query.masks.items()
    )
    given = sum(score.mean is not None for score in scores.values())
    return ScoredPair(
        id=pair.id,
        rater=rater,
        instruction=pair.query.instruction,
        width_px=width,
        height_px=height,
        regions=regions,
        background=_record(prediction.background),
        background_reward=region_reward(usable(prediction.background).mean, aesthetics),
        success=_record(prediction.success),
        overedit=_record(prediction.overedit),
        naturalness=_record(prediction.naturalness),
        artifacts=_record(prediction.artifacts),
        coverage=given / len(scores),
    )


def _record(score: Predicted) -> PredictedScore:
    found = usable(score)
    return PredictedScore(mean=found.mean, std=found.std)
