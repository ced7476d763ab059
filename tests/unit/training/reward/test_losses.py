"""Every loss against a case worked out by hand, and against what it must never do."""

import math

import pytest
import torch

from training.reward.losses import bradley_terry, gaussian_nll, share_loss, uncertain_ranking

ALL = torch.tensor([True])


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_share_loss_by_hand() -> None:
    # logit ln 3 is a share of .75; cross-entropy with .5: -(.5 ln .75 + .5 ln .25) = .5 (.287682 + 1.386294)
    assert share_loss(one(math.log(3)), one(0.5), ALL).item() == pytest.approx(0.836988, abs=1e-5)


def test_share_loss_is_least_at_the_mean_share() -> None:
    shares = torch.tensor([1.0, 0.6, 0.5])
    logits = torch.linspace(-3, 3, 601)
    losses = torch.stack([share_loss(x.expand(3), shares, torch.ones(3, dtype=torch.bool)) for x in logits])
    assert torch.sigmoid(logits[losses.argmin()]).item() == pytest.approx(0.7, abs=2e-3)


def test_gaussian_nll_by_hand() -> None:
    # mean 20, score 17, variance 4: (ln 4 + 9 / 4) / 2 = (1.386294 + 2.25) / 2
    assert gaussian_nll(one(20.0), one(math.log(4)), one(17.0), ALL).item() == pytest.approx(1.818147, abs=1e-5)


def test_the_variance_that_fits_best_is_the_squared_error() -> None:
    log_variance = torch.zeros(1, requires_grad=True)
    gaussian_nll(one(0.0), log_variance + math.log(9), one(3.0), ALL).backward()
    assert log_variance.grad is not None
    assert log_variance.grad.item() == pytest.approx(0, abs=1e-6)


def test_bradley_terry_by_hand() -> None:
    # r_w - r_l = 2: -ln(1 / (1 + e^-2)) = ln 1.135335
    assert bradley_terry(one(3.0), one(1.0), ALL).item() == pytest.approx(0.126928, abs=1e-5)


def test_uncertain_ranking_by_hand() -> None:
    # gap 1, variance 4, noise -1, 0, 1: z = -1, 1, 3; mean of sigmoids (.268941 + .731059 + .952574) / 3 = .650858
    noise = torch.tensor([[-1.0], [0.0], [1.0]])
    assert uncertain_ranking(one(1.0), one(4.0), noise, ALL).item() == pytest.approx(0.429464, abs=1e-5)


def test_doubt_is_cheap_where_the_order_is_wrong_and_dear_where_it_is_right() -> None:
    noise = torch.randn(4001, 1, generator=torch.Generator().manual_seed(1))
    sure, doubtful = one(0.01), one(9.0)
    assert uncertain_ranking(one(-3.0), doubtful, noise, ALL) < uncertain_ranking(one(-3.0), sure, noise, ALL)
    assert uncertain_ranking(one(3.0), doubtful, noise, ALL) > uncertain_ranking(one(3.0), sure, noise, ALL)


def test_the_logarithm_stands_outside_the_mean() -> None:
    """-mean log sigmoid(z) would always grow with s, whatever the gap."""
    noise = torch.randn(4001, 1, generator=torch.Generator().manual_seed(2))
    variance = torch.tensor([4.0], requires_grad=True)
    uncertain_ranking(one(-3.0), variance, noise, ALL).backward()
    assert variance.grad is not None
    assert variance.grad.item() < 0
    wrong = -torch.nn.functional.logsigmoid(-3.0 + 2.0 * noise).mean()
    assert uncertain_ranking(one(-3.0), one(4.0), noise, ALL).item() < wrong.item() - 0.1


@pytest.mark.parametrize("missing", [math.nan, 7.0])
def test_missing_scores_give_no_gradient(missing: float) -> None:
    present = torch.tensor([True, False])
    scores = torch.tensor([0.5, missing])
    for loss in (
        lambda x: share_loss(x, scores, present),
        lambda x: gaussian_nll(x, x, scores, present),
        lambda x: bradley_terry(x, -x, present),
    ):
        outputs = torch.tensor([0.3, 0.4], requires_grad=True)
        loss(outputs).backward()
        assert outputs.grad is not None
        assert outputs.grad[0] != 0
        assert outputs.grad[1] == 0


def test_the_mean_is_over_what_is_present() -> None:
    present = torch.tensor([True, False, False])
    loss = gaussian_nll(torch.tensor([1.0, 8.0, 9.0]), torch.zeros(3), torch.zeros(3), present)
    assert loss.item() == pytest.approx(0.5)


def test_nothing_present_is_a_loss_of_zero() -> None:
    outputs = torch.tensor([0.3], requires_grad=True)
    loss = share_loss(outputs, one(math.nan), torch.tensor([False]))
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert outputs.grad.item() == 0
