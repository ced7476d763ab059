"""What raters are like: known ones are found again, few answers are not trusted, copies count once, issues stand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.answers import LEVEL_OF, RatedQuestion, table
from annotation.raters.consensus import METHOD, consensus, current, fit_panel, method_of, robust_mean
from annotation.raters.score_model import LATENT, ScoreModel, fit_scores, level_chances
from annotation.raters.simulated import CopyingRater, RandomRater, Rater, SteadyRater, level, rate
from schemas.score import LEVEL_SCORES, Annotation, Issue, RegionScore
from tests.cases.rater_cases import annotation, scores, truths

CASES = truths(150)


def _steady(label: str, **settings_: float) -> SteadyRater:
    return SteadyRater(label=label, **({"noise": 2.0} | settings_))


HONEST = (_steady("one"), _steady("two"), _steady("three"), _steady("four"))


def _standing(*raters: Rater, n: int = len(CASES)) -> dict[str, list[Annotation]]:
    return {
        case.candidate: current([annotation(rate(rater, case, index)) for rater in raters])
        for index, case in enumerate(CASES[:n])
    }


def _model(*raters: Rater, n: int = len(CASES)) -> ScoreModel:
    found = fit_scores(table(_standing(*raters, n=n)))
    assert isinstance(found, ScoreModel)
    return found


@given(st.integers(0, 25), st.floats(-8, 8), st.floats(0.5, 2))
def test_without_noise_the_chance_is_on_the_level_that_is_heard(score: int, bias: float, harshness: float) -> None:
    chances = level_chances(np.array([bias]), np.array([harshness]), np.array([1e-6]))[0, score]
    heard = 25 - harshness * (25 - score) + bias
    assert chances.sum() == pytest.approx(1)
    if min(abs(heard - cut) for cut in (3, 9.5, 16, 22)) > 1e-3:
        assert LEVEL_SCORES[int(chances.argmax())] == level(heard)


def test_bias_harshness_and_random_answers_are_found_again() -> None:
    mild, harsh, wild = _steady("mild", bias=4), _steady("harsh", harshness=1.5), RandomRater(label="wild")
    found = _model(*HONEST, mild, harsh, wild).raters
    assert found[mild.name].bias == pytest.approx(4, abs=1.5)
    assert found[harsh.name].harshness == pytest.approx(1.5, abs=0.2)
    assert found[wild.name].random_share > 0.8
    assert max(found[rater.name].random_share for rater in HONEST) < 0.1
    assert max(abs(found[rater.name].bias) for rater in HONEST) < 1.5


def test_with_few_answers_a_rater_stays_near_the_prior() -> None:
    mild = _steady("mild", bias=6)
    standing = _standing(*HONEST, mild)
    few = {key: rows if n < 1 else [row for row in rows if row.scores.rater != mild.name]
           for n, (key, rows) in enumerate(sorted(standing.items()))}  # fmt: skip
    many, little = (fit_scores(table(found)) for found in (standing, few))
    assert isinstance(many, ScoreModel)
    assert isinstance(little, ScoreModel)
    assert 0 < little.raters[mild.name].bias < many.raters[mild.name].bias - 1
    assert little.raters[mild.name].bias_error > 2 * many.raters[mild.name].bias_error


def test_the_consensus_is_nearer_to_the_truth_than_hubers_mean_where_raters_are_biased() -> None:
    raters = (*HONEST[:2], _steady("mild", bias=5), _steady("stern", bias=-5), RandomRater(label="wild"))
    standing = _standing(*raters)
    model = fit_panel(standing)
    own, huber = [], []
    for case in CASES:
        rows = standing[case.candidate]
        answers = [row.scores.background for row in rows if row.scores.background is not None]
        own.append(abs((consensus(rows, "one", model).background.mean or 0) - (case.background or 0)))
        huber.append(abs(robust_mean(answers) - (case.background or 0)))
    assert np.mean(own) < 0.8 * np.mean(huber)


def test_copying_raters_count_as_one() -> None:
    copy = CopyingRater(label="copy", own=_steady("own"), neighbour=HONEST[0])
    found = _model(*HONEST, copy)
    assert [(pair.first, pair.second, pair.same) for pair in found.copies] == [
        (*sorted((copy.name, HONEST[0].name)), 1.0)
    ]
    assert found.raters[copy.name].weight == found.raters[HONEST[0].name].weight == 0.5
    assert {found.raters[rater.name].weight for rater in HONEST[1:]} == {1.0}
    assert _model(*HONEST).copies == ()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_a_score_is_on_the_scale_whatever_the_answers(levels: list[int]) -> None:
    question = RatedQuestion("image.background", "", dict(zip(sorted(MODEL.raters), levels, strict=False)))
    mean, error = MODEL.score(question)
    assert 0 <= mean <= 25
    assert 0 <= error <= 12.5


@pytest.mark.parametrize("n", [1, 2, 4])
def test_where_all_agree_the_score_rises_with_them_and_is_near(n: int) -> None:
    names = sorted(MODEL.raters)[:n]
    found = [MODEL.score(RatedQuestion("image.background", "", dict.fromkeys(names, one)))[0] for one in range(5)]
    assert found == sorted(found)
    assert found == pytest.approx(LEVEL_SCORES, abs=3)


MODEL = _model(*HONEST)


def test_a_rater_that_the_model_does_not_know_counts_as_the_prior() -> None:
    known = MODEL.score(RatedQuestion("image.success", "", {HONEST[0].name: 2}))
    stranger = MODEL.score(RatedQuestion("image.success", "", {"stranger": 2}))
    assert abs(known[0] - stranger[0]) < 3
    assert stranger[1] > known[1]


def test_the_model_is_the_same_in_any_order() -> None:
    standing = _standing(*HONEST)
    turned = {key: rows[::-1] for key, rows in reversed(standing.items())}
    first, second = fit_panel(standing), fit_panel(turned)
    for rows in list(standing.values())[:20]:
        assert consensus(rows, "one", first) == consensus(rows[::-1], "one", second)


@pytest.mark.parametrize("standing", [{}, _standing(HONEST[0]), _standing(*HONEST, n=2)])
def test_too_little_for_a_model_is_said_and_gives_hubers_mean(standing: dict[str, list[Annotation]]) -> None:
    model = fit_panel(standing)
    assert model.scores is None
    assert "fewer than 20 questions" in model.reason
    assert method_of(model) == METHOD
    for rows in list(standing.values())[:3]:
        assert consensus(rows, "one", model).background == consensus(rows, "one").background


def test_the_method_stands_in_the_consensus() -> None:
    standing = _standing(*HONEST)
    rows = next(iter(standing.values()))
    model = fit_panel(standing)
    assert (
        (consensus(rows, "one").method, consensus(rows, "one", model).method)
        == (METHOD, LATENT)
        == (
            "huber-3.125",
            "latent-1",
        )
    )


def test_constant_and_missing_answers_break_nothing() -> None:
    standing = {
        f"{n:016x}": current(
            [annotation(scores(25 if n % 3 else None, f"{n:016x}", ["a" * 16], rater)) for rater in "abc"]
        )
        for n in range(40)
    }
    model = fit_panel(standing)
    assert method_of(model) == LATENT
    found = consensus(standing[f"{1:016x}"], "one", model)
    assert found.background.mean == pytest.approx(25, abs=0.5)
    assert found.regions[0].agreement is None
    silent = consensus(standing[f"{0:016x}"], "one", model)
    assert (silent.background.mean, silent.background.n_missing) == (None, 3)


def _naming(named: dict[str, list[tuple[Issue, ...]]]) -> dict[str, list[Annotation]]:
    """named: by rater, the issues on each candidate's one region."""
    standing = {}
    for n in range(len(next(iter(named.values())))):
        key = f"{n:016x}"
        rows = []
        for rater, issues in named.items():
            region = RegionScore(region="a" * 16, success=13, preserve=13, issues=issues[n])
            rows.append(annotation(scores(13, key, [], rater).model_copy(update={"regions": (region,)})))
        standing[key] = current(rows)
    return standing


def test_an_issue_stands_on_the_word_of_those_who_find_it() -> None:
    """Two raters who see spills against two who name one everywhere: half name it on all, and only 15 of 60 have it."""
    rng = np.random.default_rng(0)
    there = np.arange(60) < 15

    def careful() -> list[tuple[Issue, ...]]:
        return [("spill",) if one != (rng.random() < 0.04) else () for one in there]

    def careless() -> list[tuple[Issue, ...]]:
        return [("spill",) if rng.random() < 0.9 else () for _ in there]

    standing = _naming({"a": careful(), "b": careful(), "c": careful(), "d": careless(), "e": careless()})
    model = fit_panel(standing)
    found = np.array(
        [consensus(standing[key], "one", model).regions[0].issues == ("spill",) for key in sorted(standing)]
    )
    assert (found == there).mean() >= 0.95
    assert set(model.issues) == {"spill"}
    few, many = (model.issues["spill"].rates[rater][1] for rater in "ad")
    assert few < 0.25 < many


def test_no_issue_at_all_and_one_that_everybody_names() -> None:
    assert fit_panel(_naming(dict.fromkeys("abc", [()] * 40))).issues == {}
    standing = _naming(dict.fromkeys("abc", [("missed",)] * 40))
    model = fit_panel(standing)
    assert {consensus(rows, "one", model).regions[0].issues for rows in standing.values()} == {("missed",)}


def test_levels_are_the_nearest() -> None:
    assert [LEVEL_OF[score] for score in (*LEVEL_SCORES, 3, 10, 22, 23)] == [0, 1, 2, 3, 4, 0, 2, 3, 4]
