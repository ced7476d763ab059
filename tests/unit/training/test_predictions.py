"""A prediction as a rater's scores."""

import pytest

from schemas.errors import BadInput
from training.predictions import as_points, candidate_score
from training.reward_protocol import Predicted, Prediction, RegionPrediction

ID = "0123456789abcdef"


def prediction(**changes: Predicted) -> Prediction:
    image = {name: Predicted(10.0, 1.0) for name in ("background", "success", "overedit", "naturalness", "artifacts")}
    regions = {
        ID: RegionPrediction(Predicted(24.5), Predicted(None)),
        "extra-0": RegionPrediction(*[Predicted(0.0)] * 2),
    }
    return Prediction(regions=regions, **(image | changes))


def test_scores_are_rounded_half_up_and_missing_stays_missing() -> None:
    score = candidate_score(prediction(background=Predicted(2.5)), candidate=ID, reward_name="region", synthetic=True)
    assert score.rater == "model:region"
    assert score.synthetic
    assert [(region.region, region.success, region.preserve) for region in score.regions] == [
        (ID, 25, None),
        ("extra-0", 0, 0),
    ]
    assert (score.background, score.success) == (3, 10)


@pytest.mark.parametrize("mean", [None, float("nan"), float("inf"), -0.01, 25.01])
def test_what_is_out_of_range_is_missing_and_never_clipped(mean: float | None) -> None:
    assert as_points(Predicted(mean)) is None


def test_a_key_that_is_no_region_id_is_one_clear_line() -> None:
    odd = prediction()
    odd = Prediction({"cup": odd.regions[ID]}, *[Predicted(1.0)] * 5)
    with pytest.raises(BadInput, match=r"scores of reward 'region': regions?.*pattern"):
        candidate_score(odd, candidate=ID, reward_name="region", synthetic=True)
