"""Gold: the sequential test by hand and by simulation, accuracy and drift, and which candidates make good gold."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.gold import (
    BLOCK,
    FALSE_ALARM,
    THRESHOLD,
    GoldAnswer,
    choose_gold,
    gold_answers,
    gold_summary,
    log_ratios,
    random_verdict,
)
from annotation.raters.simulated import RandomRater, Rater, SteadyRater, rate
from schemas.record import short_hash
from schemas.score import LEVEL_SCORES, Annotation
from tests.cases.rater_cases import annotation, scores, truth, truths

CASES = truths(60, seed=7)
KNOWN = {case.candidate: case for case in CASES}


def _rated(rater: Rater, n: int = 12, seed: int = 0) -> list[Annotation]:
    order = np.random.default_rng(seed).permutation(len(CASES))[:n]
    times = [f"2026-01-01T00:{number:02d}:00+00:00" for number in range(n)]
    return [
        annotation(rate(rater, CASES[place], 10 * number), created_at=time, updated_at=time)
        for number, (place, time) in enumerate(zip(order, times, strict=True))
    ]


def _answers(rater: Rater, seed: int = 0) -> list[GoldAnswer]:
    return gold_answers(KNOWN, _rated(rater, seed=seed))


def test_random_raters_are_found_within_20_answers() -> None:
    found = [random_verdict(_answers(RandomRater(label="r", seed=n), n)[:BLOCK]).found_after for n in range(200)]
    assert sum(after is not None and after <= 20 for after in found) >= 0.95 * 200


@pytest.mark.parametrize(
    "kind",
    [
        {"noise": 3.0, "drift": 1.0},
        {"bias": -5.0, "harshness": 1.7, "noise": 3.0, "drift": -1.0},
        {"bias": 5.0, "harshness": 0.6, "noise": 4.0},
        {"noise": 0.0},
    ],
)
def test_honest_raters_are_not_however_harsh_or_lenient(kind: dict[str, float]) -> None:
    alarms = [random_verdict(_answers(SteadyRater(label="h", seed=n, **kind), n)).found_after for n in range(100)]
    assert sum(after is not None for after in alarms) <= 0.05 * 100


def test_the_first_ratio_by_hand() -> None:
    """Five levels alike, or a habit not yet seen: .2 both; the best honest rater is sure but for slips."""
    (ratio,) = log_ratios([GoldAnswer(25, 4)])
    assert ratio == pytest.approx(log(0.2) - log(0.98 + 0.02 / 5), abs=1e-3)


@given(st.lists(st.builds(GoldAnswer, st.integers(0, 25), st.integers(0, 4)), min_size=1, max_size=25))
def test_a_verdict_is_the_first_answer_over_the_threshold(answers: list[GoldAnswer]) -> None:
    ratios = [ratio for begin in (0, BLOCK) if answers[begin:] for ratio in log_ratios(answers[begin : begin + BLOCK])]
    over = [n for n, ratio in enumerate(ratios, 1) if ratio >= THRESHOLD]
    verdict = random_verdict(answers)
    assert verdict.found_after == (over[0] if over else None)
    assert verdict.evidence == max(0.0, *ratios)


def test_an_honest_rater_of_the_grid_seldom_crosses_the_line() -> None:
    """Ville: ever crossing has a chance of at most FALSE_ALARM, for the worst kind of the grid, too."""
    rng = np.random.default_rng(0)
    crossed = 0
    for n in range(300):
        kind = SteadyRater(label="edge", seed=n, bias=-6, harshness=1.0, noise=4.0)
        case = truth(int(rng.integers(0, 26)), short_hash("edge", n), n_regions=7)
        said = rate(kind, case, 0)
        found = gold_answers({case.candidate: case}, [annotation(said)])[:BLOCK]
        crossed += random_verdict(found).found_after is not None
    assert crossed <= 300 * FALSE_ALARM * 2


def test_who_reads_the_scale_upside_down_is_found() -> None:
    truths_ = [int(one) for one in np.random.default_rng(1).integers(0, 26, 20)]
    upside_down = [
        GoldAnswer(one, int(np.argmin([abs(25 - one - score) for score in LEVEL_SCORES]))) for one in truths_
    ]
    assert random_verdict(upside_down).found_after is not None


def test_who_stops_looking_later_is_found_later() -> None:
    honest = _answers(SteadyRater(label="h", noise=2), 1)[: 2 * BLOCK]
    bored = _answers(RandomRater(label="r"), 2)[:BLOCK]
    assert random_verdict(honest).found_after is None
    found = random_verdict([*honest, *bored]).found_after
    assert found is not None
    assert 2 * BLOCK < found <= 3 * BLOCK


def test_accuracy_and_error_by_hand() -> None:
    answers = [GoldAnswer(25, 4), GoldAnswer(25, 3), GoldAnswer(13, 2), GoldAnswer(0, 4)]
    found = gold_summary("a", answers)
    assert (found.n_answers, found.exact, found.near, found.random) == (4, 0.5, 0.75, False)
    assert found.error.value == (0 - 6 + 0 + 25) / 4
    assert found.drift.reason == "fewer than 8 gold answers"
    assert gold_summary("a", []).error.reason == "no gold was answered"
    assert gold_summary("a", answers[:1]).error.low is None


def test_a_drift_is_found_and_none_where_there_is_none() -> None:
    cases = {short_hash("d", n): truth(13, short_hash("d", n)) for n in range(20)}

    def drift(points: float) -> float:
        kind = SteadyRater(label="d", drift=points, noise=2.0)
        rows = [annotation(rate(kind, case, 5 * n), created_at=f"2026-01-01T00:00:{n:02d}+00:00",
                           updated_at=f"2026-01-01T00:00:{n:02d}+00:00")
                for n, case in enumerate(cases.values())]  # fmt: skip
        found = gold_summary("d", gold_answers(cases, rows)).drift
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
        return found.value

    assert drift(10.0) == pytest.approx(9.5, abs=2)  # 95 tasks from first to last
    assert drift(-10.0) == pytest.approx(-9.5, abs=2)
    assert drift(0.0) == pytest.approx(0, abs=1.5)


def test_only_known_questions_that_were_answered_count() -> None:
    known = scores(13, "c" * 16, ["a" * 16, "extra-0"], "oracle").model_copy(update={"background": None})
    said = scores(19, "c" * 16, ["extra-0"], "a").model_copy(update={"success": None})
    gold = {known.candidate: known}
    assert gold_answers(gold, [annotation(said)]) == [GoldAnswer(13, 3)] * 3
    assert gold_answers(gold, [annotation(said, state="skipped")]) == []
    assert gold_answers({}, [annotation(said)]) == []


def test_good_gold_has_all_levels() -> None:
    plain = {short_hash("p", n): truth(25, short_hash("p", n)) for n in range(50)}
    rare = {short_hash("r", n): truth(6 * n, short_hash("r", n)) for n in range(4)}
    chosen = choose_gold(plain | rare, 5)
    assert set(rare) <= set(chosen)
    assert choose_gold(dict(reversed((plain | rare).items())), 5) == chosen
    assert (choose_gold({}, 5), len(choose_gold(rare, 9))) == ([], 4)
