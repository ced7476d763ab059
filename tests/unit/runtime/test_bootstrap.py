"""AUROC and bootstrap intervals against hand-worked and known cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from runtime.bootstrap import estimate, mean_over, resamples, shares_above, weighted_means


def test_auroc_by_hand() -> None:
    """Flawed 1, 5 against sound 2, 5, 9: 1 lies below 3 of 3, 5 below 1 and level with 1: (3 + 1.5) / 6."""
    shares = shares_above(np.array([1.0, 5.0]), np.array([9.0, 2.0, 5.0]), np.ones((1, 3)))
    assert shares[0].tolist() == [1.0, 0.5]
    assert weighted_means(shares, np.ones((1, 2)))[0] == pytest.approx(4.5 / 6)


def test_weights_count_like_repeated_rows() -> None:
    flawed, sound = np.array([3.0, 4.0]), np.array([1.0, 5.0, 4.0])
    weighted = shares_above(flawed, sound, np.array([[2.0, 0.0, 3.0]]))
    repeated = shares_above(flawed, np.array([1.0, 1.0, 4.0, 4.0, 4.0]), np.ones((1, 5)))
    assert weighted == pytest.approx(repeated)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_that_of_sklearn(rows: list[tuple[int, bool]]) -> None:
    scores, flawed = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    if flawed.all() or not flawed.any():
        return
    shares = shares_above(scores[flawed], scores[~flawed], np.ones((1, int((~flawed).sum()))))
    assert shares.mean() == pytest.approx(roc_auc_score(flawed, -scores))


def test_nothing_to_compare_is_no_number() -> None:
    assert np.isnan(shares_above(np.array([1.0]), np.array([2.0]), np.zeros((1, 1)))).all()
    assert np.isnan(weighted_means(np.array([np.nan]), np.ones((1, 1)))).all()
    assert estimate(np.array([np.nan, 0.5])).value is None
    assert np.isnan(mean_over([])).all()
    assert mean_over([np.array([0.2, np.nan]), np.array([0.6, 0.5])]).tolist() == pytest.approx([0.4, 0.5])


def test_resamples_draw_as_many_sources_as_there_are() -> None:
    weights = resamples(7, 50, seed=1)
    assert weights.shape == (51, 7)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 7).all()
    assert (resamples(7, 50, seed=1) == weights).all()
    assert (resamples(7, 50, seed=2) != weights).any()


def test_intervals_over_sources_hold_the_truth_about_as_often_as_they_say() -> None:
    """Means of 40 sources with 5 equal rows each, truth 0: 95 % intervals must hold it in 88..99 % of 300 draws.

    Were rows drawn instead of sources, the intervals would be sqrt(5) too short and hold it in about 62 %.
    """
    rng = np.random.default_rng(4)
    held = 0
    source = np.repeat(np.arange(40), 5)
    weights = resamples(40, 300, seed=0)[:, source]
    for _ in range(300):
        found = estimate(weighted_means(rng.standard_normal(40)[source], weights))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 300 <= 0.99


def test_a_stream_draws_the_same_each_time_and_unlike_another() -> None:
    """The sums pin the figures of agreement and of rewards: another draw would move every interval."""
    drawn = {stream: resamples(7, 50, 0, stream) for stream in ("bootstrap", "agreement")}
    assert np.array_equal(drawn["bootstrap"], resamples(7, 50, 0))
    assert not np.array_equal(*drawn.values())
    assert [int(weights[:, 0].sum()) for weights in drawn.values()] == [44, 65]
