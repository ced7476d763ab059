"""Routing: who is asked next about what, in which order, and where gold stands."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.consensus import current
from annotation.raters.routing import (
    Queue,
    RoutingSettings,
    Value,
    agreed,
    by_value,
    in_overlap,
    mix_gold,
    need_of,
    plan,
)
from schemas.errors import BadInput
from schemas.record import short_hash
from schemas.score import Annotation
from tests.cases.mask_cases import CANDIDATE, box_rle, outlined
from tests.cases.rater_cases import annotation, scores

KEY = "a" * 16
ALL = RoutingSettings()
ONE_EACH = RoutingSettings(overlap_share=0)
IDS = [short_hash("candidate", n) for n in range(200)]


def _said(*given_: int | None, candidate: str = CANDIDATE, state: str = "submitted") -> list[Annotation]:
    rows = [scores(score, candidate, [KEY], f"rater-{n}") for n, score in enumerate(given_)]
    return current([annotation(row, state=state) for row in rows])


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ((19, 19), True),
        ((19, 25), True),
        ((13, 25), False),
        ((25, 25, 0), True),
        ((0, 13, 25), False),
        ((0, 6, 13, 19, 25), False),
        ((25,), False),
        ((), False),
        ((None, None), True),
    ],
)
def test_agreement_of_the_most_within_one_level(given_: tuple[int | None, ...], expected: bool) -> None:
    assert agreed(_said(*given_), ALL) is expected


def test_outlines_and_unplanned_regions_must_agree_too() -> None:
    left, right, most = box_rle(0, 0, 10, 10), box_rle(20, 0, 30, 10), box_rle(0, 0, 10, 8)
    assert agreed([outlined("a", {KEY: left}), outlined("b", {KEY: most})], ALL)
    assert not agreed([outlined("a", {KEY: left}), outlined("b", {KEY: right})], ALL)
    assert not agreed([outlined("a", {KEY: left, "extra-0": right}), outlined("b", {KEY: left})], ALL)
    three = [outlined("a", {KEY: left, "extra-0": right}), outlined("b", {KEY: left}), outlined("c", {KEY: left})]
    assert agreed(three, ALL)


@pytest.mark.parametrize(
    ("given_", "settings", "expected"),
    [
        ((), ALL, "first"),
        ((25, 25), ALL, "first"),
        ((25, 25, 25), ALL, "nothing"),
        ((0, 13, 25), ALL, "second"),
        ((0, 13, 25, 25), ALL, "second"),
        ((0, 13, 25, 25, 13), ALL, "adjudication"),
        ((0, 13, 25, 25, 25), ALL, "adjudication"),
        ((25, 25, 25, 25, 0), ALL, "nothing"),
        ((), ONE_EACH, "first"),
        ((13,), ONE_EACH, "nothing"),
    ],
)
def test_what_a_candidate_still_needs(given_: tuple[int, ...], settings: RoutingSettings, expected: str) -> None:
    assert need_of(CANDIDATE, _said(*given_), settings) == expected


def test_who_cannot_judge_was_asked_and_many_of_them_call_the_adjudicator() -> None:
    silent = [row.model_copy(update={"state": "cannot_judge"}) for row in _said(0, 0, 0)]
    assert need_of(CANDIDATE, silent, ALL) == "adjudication"
    assert need_of(CANDIDATE, [silent[0], *_said(25, 25, 25)[1:]], ALL) == "nothing"
    assert need_of(CANDIDATE, silent[:1], ONE_EACH) == "second"


def test_the_answers_of_a_distrusted_rater_do_not_count_and_somebody_else_is_asked() -> None:
    rows = _said(0, 13, 0)
    assert need_of(CANDIDATE, rows, ALL) == "nothing"  # two of three
    assert need_of(CANDIDATE, rows, ALL, distrusted={"rater-0"}) == "second"
    assert need_of(CANDIDATE, _said(25), ONE_EACH, distrusted={"rater-0"}) == "second"


def test_order_by_value_by_hand() -> None:
    values = [
        Value("a", 2.0, 0.5),
        Value("b", 4.0, 0.5),
        Value("c", 1.0, 0.1),
        Value("d", None, 0.5),
        Value("e", 9.0, 0),
    ]
    assert by_value(values) == ["b", "d", "a", "c", "e"]  # 2, 3 * .5, 1, .1, 0
    assert by_value([Value("b"), Value("a")]) == ["a", "b"]
    assert by_value([Value("a", 1.0, 0.0), Value("b", 3.0, 0.0), Value("c", 2.0, 0.0)]) == ["b", "c", "a"]
    assert by_value([]) == []


def test_the_overlap_is_a_share_that_stays_as_candidates_come() -> None:
    settings = RoutingSettings(overlap_share=0.3)
    chosen = {one for one in IDS if in_overlap(one, settings)}
    assert len(chosen) / len(IDS) == pytest.approx(0.3, abs=0.1)
    assert chosen != {one for one in IDS if in_overlap(one, RoutingSettings(overlap_share=0.3, seed=1))}
    assert chosen <= {one for one in IDS if in_overlap(one, RoutingSettings(overlap_share=0.5))}


@given(st.integers(0, 60), st.integers(0, 20), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_gold_is_spread_and_nothing_is_lost(n: int, n_gold: int, share: float) -> None:
    settings = RoutingSettings(gold_share=share)
    gold = [short_hash("gold", number) for number in range(n_gold)]
    mixed, used = mix_gold(IDS[:n], gold, settings)
    assert [one for one in mixed if one not in used] == IDS[:n]
    assert used == gold[: len(used)]
    assert len(set(mixed)) == len(mixed)
    if n_gold == 20 and n and share:
        assert len(used) / len(mixed) == pytest.approx(share, abs=1 / len(mixed) + 0.03) or len(used) == 20


def test_the_place_of_gold_cannot_be_counted_out() -> None:
    gold = [short_hash("gold", number) for number in range(20)]
    mixed, used = mix_gold(IDS, gold, ALL)
    places = [mixed.index(one) for one in used]
    assert len({later - sooner for sooner, later in pairwise(places)}) > 4


def _queues(queues: list[Queue]) -> dict[str, tuple[int, list[str]]]:
    return {queue.name: (queue.raters, [one for one in queue.candidates if one not in queue.gold]) for queue in queues}


def test_a_plan_from_the_first_round_to_the_last() -> None:
    settings = RoutingSettings(gold_share=0)
    values = [Value(one) for one in IDS[:4]]
    order = sorted(IDS[:4])
    assert _queues(plan(values, {}, {}, [], settings)) == {"first-many": (3, order)}
    placed = {"first-many": set(order)}
    assert plan(values, {}, placed, [], settings) == []
    answers = {
        order[0]: _said(25, 25, 19, candidate=order[0]),
        order[1]: _said(0, 13, 25, candidate=order[1]),
        order[2]: _said(0, 13, 25, 13, 0, candidate=order[2]),
        order[3]: _said(25, candidate=order[3]),
    }
    found = _queues(plan(values, answers, placed, [], settings))
    assert found == {"second": (2, [order[1]]), "adjudication": (1, [order[2]])}
    assert plan(values, answers, placed | {"second": {order[1]}}, [], settings, adjudicated={order[2]}) == []


def test_gold_stands_in_every_round_but_adjudication_and_is_never_work() -> None:
    gold = [short_hash("gold", number) for number in range(8)]
    values = [Value(one) for one in [*IDS[:30], *gold]]
    (queue,) = plan(values, {}, {}, gold, ALL)
    assert len(queue.gold) == 4
    assert set(queue.candidates) - queue.gold == set(IDS[:30])
    (later,) = plan(values, {}, {"first-many": {*IDS[:20], *queue.gold}}, gold, ALL)
    assert not later.gold & queue.gold
    assert plan(values, {}, {}, gold, ALL) == [queue]


def test_the_order_in_which_things_are_given_does_not_matter() -> None:
    values = [Value(one, float(n % 7), 0.1 * (n % 5)) for n, one in enumerate(IDS)]
    assert plan(values, {}, {}, [], ALL) == plan(values[::-1], {}, {}, [], ALL)


@pytest.mark.parametrize(
    "settings",
    [{"overlap_raters": 1}, {"second_raters": 0}, {"overlap_share": 1.5}, {"gold_share": 0.6}, {"agreed_iou": -1.0}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="routing"):
        RoutingSettings(**settings)  # type: ignore[arg-type]
