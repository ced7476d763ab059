"""A few strikes of `make bends`, the same each time: one place bent, and all the rest as it was."""

from pathlib import Path

from tests.bends.outcome import FINDING
from tests.bends.run import GROUNDS, drawn, strikes

COUNT, SEED = 25, 4


def test_what_is_bent_in_one_place_is_right_or_told_and_all_the_rest_is_as_it_was(tmp_path: Path) -> None:
    found = list(strikes(tmp_path.resolve(), range(COUNT), SEED))
    assert [one for one in found if one.outcome == FINDING] == []
    assert {one.ground for one in found} == {ground.name for ground in GROUNDS}


def test_the_same_number_draws_the_same_strike() -> None:
    first, second = drawn(7, SEED), drawn(7, SEED)
    assert first[:2] == second[:2]
    assert first[2].random() == second[2].random()
