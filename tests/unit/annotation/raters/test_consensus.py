"""The consensus: its robust mean against hand-worked cases, what counts as an answer, and what the spread says."""

from statistics import mean, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from annotation.raters.consensus import HUBER_DELTA, consensus, current, robust_mean, summary
from annotation.raters.simulated import Rater, panel, rate
from schemas.score import LEVEL_SCORES, Annotation, Consensus, ScoreSummary
from tests.cases.rater_cases import annotation, scores, truth, truths

ANSWERS = st.lists(st.sampled_from(LEVEL_SCORES), min_size=1, max_size=9)
CANDIDATE, REGION = "c" * 16, "a" * 16


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([13], 13),
        ([13, 19], 16),
        ([25, 25, 25, 25, 0], 25 - 3.125 / 4),  # 4 (25 - mu) = 3.125
        ([0, 25, 25, 25], 25 - 3.125 / 3),
        ([19, 19, 25], 19 + 3.125 / 2),
        ([13, 19, 19, 19, 25], 19),
        ([6, 13, 13, 13, 19, 19], 13 + 3.125 / 3),  # 6 and both 19 are out of reach
        ([0, 25], 12.5),  # two even camps: all of 3.125..21.875 solves it
        ([0, 0, 25, 25], 12.5),
        ([6, 13], 9.5),  # all of 9.125..9.875
        ([0, 0, 13, 25, 25], 13),
        ([0, 0, 0, 13, 25], 2 * 3.125 / 3),  # 13 and 25 pull alike
    ],
)
def test_the_robust_mean_by_hand(answers: list[float], expected: float) -> None:
    assert robust_mean(answers) == pytest.approx(expected, abs=1e-9)


def _loss(answers: list[int], mu: float) -> float:
    off = np.abs(np.asarray(answers) - mu)
    return float(np.where(off <= HUBER_DELTA, off**2 / 2, HUBER_DELTA * (off - HUBER_DELTA / 2)).sum())


@given(ANSWERS)
def test_the_robust_mean_is_the_least_of_hubers_loss(answers: list[int]) -> None:
    at = robust_mean(answers)
    least = min(_loss(answers, mu) for mu in np.linspace(0, 25, 501))
    assert _loss(answers, at) <= least + 1e-9
    assert min(answers) <= at <= max(answers)
    assert robust_mean(answers[::-1]) == at
    assert robust_mean([answer + 100 for answer in answers]) == pytest.approx(at + 100, abs=1e-9)
    assert robust_mean([-answer for answer in answers]) == pytest.approx(-at, abs=1e-9)


@given(st.lists(st.floats(10, 11), min_size=2, max_size=8), st.floats(-1000, 1000))
def test_one_wild_answer_moves_it_by_no_more_than_it_says(answers: list[float], wild: float) -> None:
    moved = abs(robust_mean([*answers, wild]) - mean(answers))
    assert moved <= HUBER_DELTA / len(answers) + 1e-9


def test_no_answers_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no answers"):
        robust_mean([])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], ScoreSummary(mean=None, spread=None, n_raters=0)),
        ([None, None], ScoreSummary(mean=None, spread=None, n_raters=0, n_missing=2)),
        ([19, None], ScoreSummary(mean=19, spread=None, n_raters=1, n_missing=1)),
        ([13, 19, None, 25], ScoreSummary(mean=19, spread=6, n_raters=3, n_missing=1)),
        ([25, 25], ScoreSummary(mean=25, spread=0, n_raters=2)),
    ],
)
def test_a_missing_answer_is_counted_and_never_filled_in(answers: list[int | None], expected: ScoreSummary) -> None:
    assert summary(answers) == expected


def _said(score: int | None, rater: str, at: str = "2026-01-01T00:00:00+00:00", **fields: object) -> Annotation:
    return annotation(scores(score, CANDIDATE, [REGION], rater), updated_at=at, created_at=at, **fields)


def test_who_skipped_or_could_not_judge_counts_as_missing_and_who_was_deleted_not_at_all() -> None:
    rows = [_said(25, "a"), _said(13, "b"), _said(0, "c", state="skipped"), _said(0, "d", state="cannot_judge")]
    rows.append(_said(0, "e", state="deleted"))
    found = consensus(current(rows), "one")
    expected = ScoreSummary(mean=19, spread=8.4853, n_raters=2, n_missing=2)
    assert (found.background, found.regions[0].success, found.regions[0].preserve) == (expected,) * 3
    assert (found.candidate, found.snapshot, found.synthetic, found.method) == (CANDIDATE, "one", True, "huber-3.125")


def test_of_each_rater_the_latest_answer_stands_whatever_came_first() -> None:
    late, later = "2026-01-02T00:00:00Z", "2026-01-02T00:00:01.5+00:00"
    rows = [_said(0, "a", later, id="x"), _said(25, "a", late, id="x"), _said(6, "a", late, id="y")]
    for order in (rows, rows[::-1]):
        assert [row.scores.background for row in current(order)] == [0]
    again = [*rows, _said(13, "a", "2026-01-03T00:00:00+00:00", id="x", state="deleted")]
    assert [row.scores.background for row in current(again)] == [6]
    assert [row.scores.background for row in current([_said(0, "a"), _said(6, "a")])] == [6]


def test_a_region_that_only_some_scored_is_missing_for_the_others() -> None:
    both = scores(25, CANDIDATE, ["extra-10", "extra-9", REGION], "a")
    one = scores(13, CANDIDATE, [REGION], "b")
    found = consensus([annotation(both), annotation(one)], "one")
    assert [region.region for region in found.regions] == [REGION, "extra-9", "extra-10"]
    assert found.regions[0].success.mean == 19
    assert found.regions[1].success == ScoreSummary(mean=25, spread=None, n_raters=1, n_missing=1)


def test_an_issue_stands_where_half_of_them_name_it() -> None:
    rows = [scores(6, CANDIDATE, [REGION], rater) for rater in "abcd"]
    named = [("missed", "spill"), ("missed",), ("missed", "spill"), ("artefact",)]
    rows = [
        row.model_copy(update={"regions": (row.regions[0].model_copy(update={"issues": issues}),)})
        for row, issues in zip(rows, named, strict=True)
    ]
    assert consensus([annotation(row) for row in rows], "one").regions[0].issues == ("missed", "spill")


def test_several_candidates_have_no_consensus() -> None:
    with pytest.raises(ValueError, match="too many values"):
        consensus([annotation(truth(1, "a" * 16)), annotation(truth(1, "b" * 16))], "one")


def _consensuses(raters: tuple[Rater, ...], n: int) -> list[Consensus]:
    cases = enumerate(truths(n))
    return [consensus([annotation(rate(rater, case, i)) for rater in raters], "one") for i, case in cases]


def test_the_spread_rises_with_the_raters_disagreement() -> None:
    means = []
    for noise in (0.0, 2.0, 4.0, 6.0, 8.0):
        raters = tuple(rater.model_copy(update={"noise": noise, "missing": 0.0}) for rater in panel(5, seed=1))
        means.append(mean(found.background.spread or 0.0 for found in _consensuses(raters, 60)))
    assert means == sorted(means)
    assert means[-1] > means[0] + 3


def test_where_one_panel_is_at_odds_another_is_too() -> None:
    one, other = (_consensuses(panel(15, seed=seed), 60) for seed in (1, 2))
    pairs = [(a.background.spread, b.background.spread) for a, b in zip(one, other, strict=True)]
    assert spearmanr(*zip(*pairs, strict=True)).statistic > 0.4


def test_it_is_nearer_to_the_truth_than_the_mean_where_a_rater_answers_at_random() -> None:
    cases = truths(200)
    raters = panel(4, n_random=1, seed=3)
    errors: dict[str, list[float]] = {"huber": [], "mean": [], "median": []}
    for index, case in enumerate(cases):
        answers = [
            [a for a in column if a is not None]
            for column in zip(*(r.answers(case, index) for r in raters), strict=True)
        ]
        for given_, wanted in zip(answers, (case.background, case.success), strict=False):
            for name, how in (("huber", robust_mean), ("mean", mean), ("median", median)):
                errors[name].append(abs(how(given_) - wanted))
    assert mean(errors["huber"]) < mean(errors["mean"])
