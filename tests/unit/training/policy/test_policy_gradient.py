"""How much of an update is signal: the estimators on gradients that are known."""

import numpy as np
import pytest
import torch

from benchmarks.policy_compare import difference
from benchmarks.policy_gradient import above_mean, drawn_figures, interval, pairs

NAN = float("nan")


def test_gradients_that_agree_are_all_signal() -> None:
    gradients = np.tile([3.0, 4.0], (5, 1))
    target = np.tile([1.0, 0.0], (5, 1))
    signal, gain = drawn_figures(gradients @ gradients.T, gradients @ target.T, n=16)
    known = ~np.isnan(signal)  # a resample of one request alone has no pair
    assert known[0]
    assert signal[known] == pytest.approx(1.0)
    assert gain[known] == pytest.approx(0.6)  # the target's component along (3, 4) / 5


def test_signal_of_two_requests_by_hand() -> None:
    """Gradients (1, 1) and (1, -1): mean product over pairs 0, mean square 2, so an update of 4 has length 2 / 4."""
    gradients, target = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[2.0, 0.0], [2.0, 0.0]])
    signal, gain = drawn_figures(gradients @ gradients.T, gradients @ target.T, n=4)
    assert signal[0] == pytest.approx(0.0)
    assert gain[0] == pytest.approx(2.0 / np.sqrt(0.5))


def test_the_estimate_of_the_signal_has_no_bias() -> None:
    """Of a mean of length 1 in noise of variance 1 in 50 directions, whose own mean square says 51 and no 1."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        gradients = rng.normal(size=(20, 50)) + np.eye(50)[0]
        found.append(pairs(gradients @ gradients.T, np.ones((1, 20)))[0])
    assert np.mean(found) == pytest.approx(1.0, abs=0.05)  # 400 draws of standard deviation .4


def test_weights_of_a_resample_count_as_copies_that_are_no_pairs_of_themselves() -> None:
    products = np.array([[9.0, 1.0, 2.0], [1.0, 9.0, 4.0], [2.0, 4.0, 9.0]])
    assert pairs(products, np.array([[1.0, 1.0, 1.0]])) == pytest.approx([(1 + 2 + 4) / 3])
    assert pairs(products, np.array([[2.0, 1.0, 0.0]])) == pytest.approx([1.0])


def test_a_reward_is_measured_above_the_other_samples_of_its_request() -> None:
    values = torch.tensor([1.0, 3.0, 5.0, 0.0, NAN, 7.0])
    places = torch.tensor([0, 0, 0, 1, 1, 2])
    # 1 - (3 + 5) / 2, 3 - 3, 5 - 2; alone or missing: nothing
    assert above_mean(values, places).tolist() == [-3.0, 0.0, 3.0, 0.0, 0.0, 0.0]


def test_an_interval_is_of_what_was_drawn() -> None:
    assert interval(np.array([5.0, *range(101)])) == [5.0, 2.5, 97.5]


def test_the_difference_of_arms_is_paired_over_seeds_and_requests() -> None:
    rng = np.random.default_rng(1)
    start = rng.random((3, 40))
    gap, low, high = difference(start + 0.1, start)
    assert (gap, low, high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    start[0, 0] = NAN
    gap, low, high = difference(start + rng.normal(0, 0.5, (3, 40)), start)
    assert low < gap < high
