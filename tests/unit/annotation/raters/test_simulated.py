"""Simulated raters: what they hear, what they answer, and the ways in which they break a consensus's assumptions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from annotation.raters.simulated import (
    BimodalRater,
    CopyingRater,
    RandomRater,
    Rater,
    SimulatedClient,
    SteadyRater,
    level,
    panel,
    rate,
)
from schemas.errors import BadInput
from schemas.score import LEVEL_SCORES, Annotation, CandidateScore
from tests.cases.rater_cases import task, truth, truths

MANY = truths(400)
ALL_KINDS = panel(3, n_random=1, n_copying=1, n_bimodal=1, seed=4)


def _answers(rater: Rater, cases: list[CandidateScore]) -> list[int | None]:
    return [answer for index, case in enumerate(cases) for answer in rater.answers(case, index)]


@pytest.mark.parametrize(("heard", "answer"), [(-40, 0), (3, 0), (3.1, 6), (14, 13), (16, 13), (16.5, 19), (99, 25)])
def test_an_answer_is_the_nearest_of_five_levels(heard: float, answer: int) -> None:
    assert level(heard) == answer


@pytest.mark.parametrize(
    ("settings", "score", "index", "answer"),
    [
        ({}, 14, 0, 13),
        ({"bias": 6}, 13, 0, 19),
        ({"bias": -6}, 13, 0, 6),
        ({"harshness": 2}, 19, 0, 13),  # 25 - 2 * 6
        ({"harshness": 0.5}, 13, 0, 19),  # 25 - .5 * 12
        ({"harshness": 3}, 25, 0, 25),
        ({"drift": 6}, 13, 0, 13),
        ({"drift": 6}, 13, 100, 19),
        ({"drift": -6}, 13, 200, 0),  # 13 - 12
        ({"missing": 1}, 13, 0, None),
        ({}, None, 0, None),
    ],
)
def test_a_steady_rater_hears_by_its_formula(
    settings: dict[str, float], score: int | None, index: int, answer: int | None
) -> None:
    assert SteadyRater(label="one", **settings).answers(truth(score), index) == [answer] * 7


def test_noise_and_missing_answers_have_the_size_they_are_given() -> None:
    middle = [truth(13, case.candidate) for case in MANY]
    spread = np.std(
        [answer - 13 for answer in _answers(SteadyRater(label="one", noise=5), middle) if answer is not None]
    )
    assert spread == pytest.approx(np.sqrt(25 + 6.25**2 / 12), rel=0.07)  # its own and that of rounding to a level
    lacking = _answers(SteadyRater(label="one", missing=0.2), MANY)
    assert lacking.count(None) / len(lacking) == pytest.approx(0.2, abs=0.02)


@given(st.sampled_from(ALL_KINDS), st.sampled_from(MANY), st.integers(0, 10_000))
def test_an_answer_is_a_level_or_missing_and_always_the_same(rater: Rater, case: CandidateScore, index: int) -> None:
    answers = rater.answers(case, index)
    assert set(answers) <= {None, *LEVEL_SCORES}
    assert answers == rater.answers(case, index)
    rated = rate(rater, case, index)
    assert (rated.synthetic, rated.rater, rated.candidate) == (True, rater.name, case.candidate)
    assert [score.region for score in rated.regions] == [score.region for score in case.regions]


def test_raters_differ_and_are_named_by_what_they_are() -> None:
    assert len({rater.name for rater in (*ALL_KINDS, *panel(3, seed=5))}) == 9
    assert panel(3, seed=4) == ALL_KINDS[:3]
    one, other = SteadyRater(label="a", noise=5), SteadyRater(label="a", noise=5, seed=1)
    assert _answers(one, MANY) != _answers(other, MANY)


def test_a_rater_keeps_the_scores_of_each_region_apart() -> None:
    case = truth(0, n_regions=3)
    points = {score.region: 25 if n == 1 else 0 for n, score in enumerate(case.regions)}
    regions = tuple(score.model_copy(update={"success": points[score.region]}) for score in case.regions)
    rated = rate(SteadyRater(label="one"), case.model_copy(update={"regions": regions}), 0)
    assert {score.region: score.success for score in rated.regions} == points
    assert {score.preserve for score in rated.regions} == {0}


def test_a_copying_rater_gives_its_neighbours_answers() -> None:
    own, neighbour = SteadyRater(label="own", noise=6), SteadyRater(label="next", noise=6, missing=0.1)
    assert _answers(CopyingRater(label="c", own=own, neighbour=neighbour), MANY) == _answers(neighbour, MANY)
    half = CopyingRater(label="c", own=own, neighbour=neighbour, share=0.5)
    copied = sum(half.answers(case, 0) == neighbour.answers(case, 0) for case in MANY)
    assert copied / len(MANY) == pytest.approx(0.5, abs=0.08)
    assert all(half.answers(case, 0) in (own.answers(case, 0), neighbour.answers(case, 0)) for case in MANY)


def test_a_bimodal_rater_has_two_moods_and_no_middle() -> None:
    moody = BimodalRater(label="b", own=SteadyRater(label="own"), swing=9)
    seen = Counter(tuple(moody.answers(truth(13, case.candidate), 0)) for case in MANY)
    assert set(seen) == {(6,) * 7, (19,) * 7}  # 13 - 9 = 4 -> 6; 13 + 9 = 22, as near to 25: the lower
    assert seen[(6,) * 7] / len(MANY) == pytest.approx(0.5, abs=0.08)


def test_a_random_rater_has_nothing_to_do_with_the_truth() -> None:
    heard = _answers(SteadyRater(label="own"), MANY)
    steady, random = _answers(SteadyRater(label="own", noise=3), MANY), _answers(RandomRater(label="r"), MANY)
    assert spearmanr(heard, steady).statistic > 0.85
    assert abs(spearmanr(heard, random).statistic) < 0.06
    shares = [random.count(score) / len(random) for score in LEVEL_SCORES]
    assert shares == pytest.approx([0.2] * 5, abs=0.03)


def _pulled(client: SimulatedClient) -> list[Annotation]:
    found, cursor, more = [], None, True
    while more:
        page = client.pull(cursor)
        found += page.annotations
        cursor, more = page.cursor, page.more
    assert client.pull(cursor).annotations == ()
    return found


def test_answers_come_page_by_page_once_each_and_their_order_does_not_matter() -> None:
    by_candidate = {case.candidate: case for case in MANY}
    tasks = [task(case.candidate, index) for index, case in enumerate(MANY)]
    forward, backward = SimulatedClient(ALL_KINDS, by_candidate), SimulatedClient(ALL_KINDS, by_candidate)
    assert forward.push(tasks) == list(reversed(backward.push(tasks[::-1])))
    found = _pulled(forward)
    assert len({answer.id for answer in found}) == len(found) == len(ALL_KINDS) * len(MANY)
    assert sorted(found, key=lambda answer: answer.id) == sorted(_pulled(backward), key=lambda answer: answer.id)
    assert all(Annotation.from_json(answer.model_dump_json(), thing="a") == answer for answer in found[:50])
    assert (found[0].updated_at, found[-1].updated_at) == ("2000-01-01T00:00:00+00:00", "2000-01-01T00:06:39+00:00")


def test_a_candidate_without_a_truth_is_not_taken() -> None:
    client = SimulatedClient(ALL_KINDS, {MANY[0].candidate: MANY[0]})
    with pytest.raises(BadInput, match="no scores"):
        client.push([task(MANY[0].candidate), task("f" * 16)])
    assert _pulled(client) == []


@pytest.mark.parametrize(("numbers", "fault"), [({}, "none"), ({"n_copying": 1}, "copy from")])
def test_a_panel_that_cannot_be_is_refused(numbers: dict[str, int], fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        panel(0, **numbers)
