"""The score record: missing is a value of its own, and the formulas against hand-worked cases."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.score import CandidateScore, RegionScore, aesthetics, phi, region_reward

SCORES = {"candidate": "0" * 16, "rater": "oracle:construction", "synthetic": True, "regions": ()}
WHOLE = {"background": 25, "success": 20, "overedit": 25, "naturalness": 16, "artifacts": 9}


def test_formulas_by_hand() -> None:
    region = RegionScore(region="0" * 16, success=16, preserve=20)
    score = CandidateScore(**SCORES, **WHOLE)
    assert phi(region) == 16
    assert aesthetics(score) == 9
    assert region_reward(16, 9) == pytest.approx(12 / 25)  # sqrt(16 * 9) = 12
    assert region_reward(0, 25) == 0


@pytest.mark.parametrize(("first", "second"), [(None, 9), (9, None), (None, None)])
def test_missing_stays_missing(first: int | None, second: int | None) -> None:
    assert phi(RegionScore(region="0" * 16, success=first, preserve=second)) is None
    assert region_reward(first, second) is None


@pytest.mark.parametrize("bad", [26, -1, 12.5, "25", True, float("nan"), []])
def test_what_is_no_score_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError):
        CandidateScore(**SCORES, **(WHOLE | {"background": bad}))


def test_a_score_left_out_is_not_the_same_as_a_missing_one() -> None:
    CandidateScore(**SCORES, **(WHOLE | {"background": None}))
    with pytest.raises(ValidationError):
        CandidateScore(**SCORES, **{name: value for name, value in WHOLE.items() if name != "background"})
