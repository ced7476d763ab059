"""What a judge wrote: integers 0..25, or missing with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.judge.parse import read_answer

ASKED = {"R1": ("success", "preserve")}


def reasons(text: str) -> set[str]:
    reading = read_answer(text, ASKED)
    assert reading.scores == {}
    assert set(reading.missing) == {("R1", "success"), ("R1", "preserve")}
    return set(reading.missing.values())


@given(st.integers(0, 25), st.integers(0, 25), st.text(st.characters(exclude_characters="{}"), max_size=40))
def test_every_valid_answer_is_read_whatever_words_stand_around_it(success: int, preserve: int, words: str) -> None:
    text = json.dumps({"R1": {"seen": "{", "success": success, "preserve": preserve}})
    reading = read_answer(f"{words}\n```json\n{text}\n```{words}", ASKED)
    assert reading.scores == {("R1", "success"): success, ("R1", "preserve"): preserve}
    assert reading.missing == {}
    assert reading.seen == {"R1": "{"}


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("26", "out_of_range"),
        ("-1", "out_of_range"),
        ("1" * 400, "out_of_range"),
        ('"25"', "not_an_integer"),
        ("12.5", "not_an_integer"),
        ("12.0", "not_an_integer"),
        ("NaN", "not_an_integer"),
        ("Infinity", "not_an_integer"),
        ("true", "not_an_integer"),
        ("[3]", "not_an_integer"),
        ("null", "declined"),
        ('3, "success": 3', "duplicate"),
    ],
)
def test_a_bad_score_is_missing_and_its_neighbour_stands(written: str, reason: str) -> None:
    reading = read_answer(f'{{"R1": {{"success": {written}, "preserve": 7}}}}', ASKED)
    assert reading.scores == {("R1", "preserve"): 7}
    assert reading.missing == {("R1", "success"): reason}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_json"),
        ("The cup is red now: success 25, preserve 25.", "no_json"),
        ("[25, 25]", "no_json"),
        ('{"R1": {"success": 20, "preserve": 20}', "half_json"),
        ('{"answer": {"R1": {"success": 20, "preserve": 20}}', "half_json"),
        ('I use {this}: {"R1": {"success": 20, "preserve": 20}}', "half_json"),
        ("{" * 100_000, "half_json"),
        ('{"R1": ' * 3000, "half_json"),
        ('{"R1": {"success": ' + "9" * 5000 + "}}", "half_json"),
        ('{"R1": {"success": 1, "preserve": 1}} or {"R1": {"success": 2, "preserve": 2}}', "several_json"),
        ('{"r1": {"success": 1, "preserve": 1}}', "absent"),
        ('{"R1": {}}', "absent"),
        ('{"R1": 20}', "malformed"),
        ('{"R1": [20, 20]}', "malformed"),
        ('{"R1": {"success": 1, "preserve": 1}, "R1": {"success": 1, "preserve": 1}}', "duplicate"),
    ],
)
def test_an_answer_that_cannot_be_read_for_sure_has_no_scores(text: str, reason: str) -> None:
    assert reasons(text) == {reason}


def test_regions_nobody_asked_for_are_dropped_and_counted() -> None:
    reading = read_answer('{"R1": {"success": 1, "preserve": 2}, "R2": {"success": 25}, "R3": 4}', ASKED)
    assert reading.scores == {("R1", "success"): 1, ("R1", "preserve"): 2}
    assert reading.unknown_places == 2


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    reading = read_answer(text, ASKED)
    assert len(reading.scores) + len(reading.missing) == 2
