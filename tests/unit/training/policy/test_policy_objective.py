"""The policy's losses: whole image and regions against each other, their gradients, clipping, and the control arms."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from schemas.errors import BadInput
from tests.cases.policy_cases import GRID, box, everything, random, two_regions
from training.policy.flow_sde import (
    kl,
    log_prob,
    relative_clip_scales,
    sde_mean_std,
    sde_step,
    step_std,
    uniform_sigmas,
)
from training.policy.objective import (
    LossSettings,
    clip_ranges,
    global_loss,
    permute_advantages,
    permute_regions,
    region_log_probs,
    region_weights,
    spatial_loss,
)
from training.policy.token_masks import RegionBatch, batched, effective_tokens, token_masks

B, T, N, C = 4, 3, 64, 8
NOISE = 0.7
SIGMAS = uniform_sigmas(10)
STEPS = (0, 3, 7)
ONES = torch.ones(T)
PLAIN = LossSettings(clip_range=0.05, scale_regions=False)


class Rollout:
    """Three stored steps of made-up latents under one velocity, and a policy that has moved a little from it."""

    def __init__(self, moved: float = 0.1) -> None:
        sigmas, self.next = SIGMAS[list(STEPS)], SIGMAS[[step + 1 for step in STEPS]]
        self.sigmas = sigmas
        self.std = step_std(sigmas, SIGMAS, NOISE)
        self.x, old = random(1, B, T, N, C), random(2, B, T, N, C)
        self.reference = random(4, B, T, N, C) * 0.3 + old
        steps = [
            sde_step(
                self.x[:, t], old[:, t], sigmas[t], self.next[t], self.std[t], random(10 + t, B, N, C), torch.float32
            )
            for t in range(T)
        ]
        self.x_next = torch.stack([step.x_next for step in steps], dim=1)
        self.old = torch.stack([step.log_prob for step in steps], dim=1)
        self.v = (old + moved * random(3, B, T, N, C)).requires_grad_()

    def log_probs(self) -> torch.Tensor:
        """(B, T, N) under the policy of now."""
        return torch.stack([log_prob(self.x_next[:, t], *self.moments(self.v, t)) for t in range(T)], dim=1)

    def kl(self) -> torch.Tensor:
        """(B, T, N) to the reference."""
        return torch.stack([self._kl(t) for t in range(T)], dim=1)

    def moments(self, v: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        return sde_mean_std(self.x[:, t], v[:, t], self.sigmas[t], self.next[t], self.std[t])

    def _kl(self, t: int) -> torch.Tensor:
        (mean, s), (reference, _) = self.moments(self.v, t), self.moments(self.reference, t)
        return kl(mean, reference, s, self.next[t] - self.sigmas[t])


def regions() -> RegionBatch:
    """Rollouts of two samples: one with two edit regions, one with a single one that shares tokens with nothing."""
    two, one = two_regions(), token_masks({"c": box(3, 5, 41, 30)}, GRID)
    return batched([two, two, one, one])


def region_advantages(seed: int = 5) -> torch.Tensor:
    batch = regions()
    return random(seed, *batch.mass.shape) * batch.valid


def flow_grpo(rollout: Rollout, advantages: torch.Tensor, eps: float, beta: float) -> torch.Tensor:
    """Flow-GRPO written out with torch's distributions, apart from everything that is tested."""
    total = torch.zeros(())
    for t in range(T):
        mean, s = rollout.moments(rollout.v, t)
        reference, _ = rollout.moments(rollout.reference, t)
        ratio = (Normal(mean, s).log_prob(rollout.x_next[:, t]).mean(dim=(1, 2)) - rollout.old[:, t].mean(dim=1)).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - eps, 1 + eps) * advantages)
        away = kl_divergence(Normal(mean, s), Normal(reference, s)).mean()
        total = total - gain.mean() + beta * away
    return total / T


def gradient(loss: torch.Tensor, rollout: Rollout) -> torch.Tensor:
    return torch.autograd.grad(loss, rollout.v)[0]


@pytest.mark.parametrize("moved", [0.2, 1.0])
def test_one_region_over_everything_is_flow_grpo(moved: float) -> None:
    rollout, whole = Rollout(moved), random(5, B)
    settings = LossSettings(clip_range=0.01, beta_edit=0.4, beta_background=2.0)
    expected = flow_grpo(rollout, whole, 0.01, 0.4)
    for gamma in (0.0, 0.5, 1.0):
        spatial = spatial_loss(
            rollout.log_probs(),
            rollout.old,
            torch.stack([whole, torch.zeros(B)], dim=1),
            everything(B),
            ONES,
            replace(settings, gamma=gamma),
            rollout.kl(),
        )
        assert spatial.loss.item() == pytest.approx(expected.item(), abs=1e-6)
        assert torch.allclose(gradient(spatial.loss, rollout), gradient(expected, rollout), atol=1e-6)
        expected = flow_grpo(rollout, whole, 0.01, 0.4)
    plain = global_loss(rollout.log_probs(), rollout.old, whole, regions(), ONES, settings, rollout.kl())
    assert plain.loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert plain.penalty.item() > 0.001


def test_the_first_of_those_cases_clips_some_and_the_second_most() -> None:
    # So that the equality above holds on both sides of the clip.
    shares = []
    for moved in (0.2, 1.0):
        rollout, whole = Rollout(moved), random(5, B)
        loss = global_loss(rollout.log_probs(), rollout.old, whole, regions(), ONES, LossSettings(clip_range=0.01))
        shares.append(loss.figures.clip_fraction.mean().item())
    assert 0 < shares[0] < 1
    assert shares[1] > 0.5


def test_area_weights_and_equal_advantages_push_like_the_whole_image() -> None:
    rollout, whole, batch = Rollout(moved=0.0), random(5, B), regions()
    settings = replace(PLAIN, gamma=1.0)
    advantages = whole[:, None] * batch.valid
    spatial = spatial_loss(rollout.log_probs(), rollout.old, advantages, batch, ONES, settings)
    plain = global_loss(rollout.log_probs(), rollout.old, whole, batch, ONES, settings)
    ours, theirs = gradient(spatial.loss, rollout), gradient(plain.loss, rollout)
    assert theirs.abs().max() > 1e-5
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-9)
    equal = spatial_loss(rollout.log_probs(), rollout.old, advantages, batch, ONES, replace(settings, gamma=0.0))
    assert not torch.allclose(gradient(equal.loss, rollout), theirs, rtol=0.1, atol=1e-9)


def test_an_advantage_of_one_hard_region_moves_nothing_outside_it() -> None:
    rollout, batch = Rollout(), batched([two_regions()] * B)
    advantages = torch.zeros(B, 3)
    advantages[:, 0] = 1.5
    loss = spatial_loss(rollout.log_probs(), rollout.old, advantages, batch, ONES, LossSettings(clip_range=10.0))
    found = gradient(loss.loss, rollout)
    inside = batch.masks[0, 0].bool()
    assert (found[:, :, ~inside] == 0).all()
    assert (found[:, :, inside].abs().sum(dim=-1) > 0).all()


def test_on_the_first_inner_step_nothing_is_clipped() -> None:
    rollout, batch = Rollout(moved=0.0), regions()
    for loss in (
        spatial_loss(rollout.log_probs(), rollout.old, region_advantages(), batch, ONES, LossSettings(clip_range=1e-4)),
        global_loss(rollout.log_probs(), rollout.old, random(5, B), batch, ONES, LossSettings(clip_range=1e-4)),
    ):
        assert (loss.figures.clip_fraction == 0).all()
        assert (loss.figures.ratio_max == 1).all()
        assert (loss.figures.approx_kl_inside == 0).all()
        assert gradient(loss.loss, rollout).abs().max() > 0


@pytest.mark.parametrize("spatial", [True, False])
def test_the_mean_over_single_steps_is_the_loss_of_all(spatial: bool) -> None:
    rollout, batch = Rollout(), regions()
    scale = relative_clip_scales(SIGMAS, STEPS, NOISE)
    settings = LossSettings(clip_range=0.005, beta_edit=0.04, beta_background=0.1)
    loss = spatial_loss if spatial else global_loss
    advantages = region_advantages() if spatial else random(5, B)
    together = loss(rollout.log_probs(), rollout.old, advantages, batch, scale, settings, rollout.kl())
    slices = [
        loss(
            rollout.log_probs()[:, t : t + 1],
            rollout.old[:, t : t + 1],
            advantages,
            batch,
            scale[t : t + 1],
            settings,
            rollout.kl()[:, t : t + 1],
        )
        for t in range(T)
    ]
    assert torch.stack([one.loss for one in slices]).mean().item() == pytest.approx(together.loss.item(), abs=1e-6)
    accumulated = sum(gradient(one.loss / T, rollout) for one in slices)
    assert torch.allclose(accumulated, gradient(together.loss, rollout), atol=1e-7)
    for name in ("clip_fraction", "ratio_max", "approx_kl_inside", "approx_kl_outside", "kl_inside", "kl_outside"):
        stacked = torch.cat([getattr(one.figures, name) for one in slices])
        assert torch.allclose(stacked, getattr(together.figures, name), rtol=1e-4)
    assert together.figures.clip_fraction.shape == (T, 3 if spatial else 1)


def test_region_log_probs_are_means_over_the_mask() -> None:
    batch, log_probs = regions(), random(6, B, T, N)
    found = region_log_probs(log_probs, batch.masks)
    assert found.shape == (B, T, 3)
    inside = batch.masks[0, 0].bool()
    assert torch.allclose(found[0, :, 0], log_probs[0][:, inside].mean(dim=1), atol=1e-6)
    soft = (batch.masks[2, 0] * log_probs[2]).sum(dim=1) / batch.masks[2, 0].sum()
    assert torch.allclose(found[2, :, 0], soft, atol=1e-6)
    assert (found[2, :, 1] == 0).all()


def test_region_log_probs_stay_float32_under_autocast() -> None:
    batch, log_probs = regions(), random(6, B, T, N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = region_log_probs(log_probs, batch.masks)
    assert found.dtype == torch.float32
    assert torch.equal(found, region_log_probs(log_probs, batch.masks))


def test_region_weights_by_hand() -> None:
    # 6, 1 and 57 tokens; gamma .5: 2.449490, 1, 7.549834 of 10.999324
    batch = batched([two_regions()])
    assert region_weights(batch, 0.5)[0].tolist() == pytest.approx([0.222694, 0.090915, 0.686391], abs=1e-5)
    assert region_weights(batch, 1.0)[0].tolist() == pytest.approx([6 / 64, 1 / 64, 57 / 64])
    assert region_weights(batch, 0.0)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert region_weights(regions(), 0.0)[2].tolist() == pytest.approx([0.5, 0, 0.5])
    assert region_weights(everything(1), 0.5)[0].tolist() == [1, 0]


def test_clip_ranges_by_hand() -> None:
    # 6 and 1 of 64 tokens: sqrt(64 / 6) = 3.265986, 8; background sqrt(64 / 57) = 1.059626
    batch, scale = batched([two_regions()]), torch.tensor([0.5, 2.0])
    found = clip_ranges(batch, 1e-2, scale)
    assert found[0, 0].tolist() == pytest.approx([0.01632993, 0.04, 0.00529813], abs=1e-6)
    assert torch.allclose(found[0, 1], 4 * found[0, 0])
    assert clip_ranges(batch, 1e-2, torch.ones(1), scale_regions=False)[0, 0].tolist() == pytest.approx([0.01] * 3)
    assert torch.allclose(clip_ranges(everything(1), 1e-2, scale)[0, :, 0], 0.01 * scale)


def test_the_clip_counts_padding_tokens_for_nothing() -> None:
    narrow, padded = batched([two_regions()]), batched([two_regions()])
    padded = RegionBatch(
        torch.nn.functional.pad(padded.masks, (0, 16)), torch.nn.functional.pad(padded.tokens, (0, 16))
    )
    assert torch.equal(clip_ranges(narrow, 1e-2, ONES), clip_ranges(padded, 1e-2, ONES))
    old, moved = random(6, 1, T, N), random(7, 1, T, N) * 0.01
    away = random(8, 1, T, N).square()
    settings, whole = LossSettings(clip_range=0.002, beta_edit=0.1, beta_background=0.3), torch.tensor([1.5])
    junk = 9 * random(9, 1, T, 16)
    tokens = torch.nn.functional.pad
    for loss, advantages in ((spatial_loss, torch.tensor([[1.0, -1.0, 0.5]])), (global_loss, whole)):
        without = loss(old + moved, old, advantages, narrow, ONES, settings, away)
        with_it = loss(
            torch.cat([old + moved, junk], dim=-1),
            tokens(old, (0, 16)),
            advantages,
            padded,
            ONES,
            settings,
            torch.cat([away, junk], dim=-1),
        )
        assert with_it.loss.item() == pytest.approx(without.loss.item(), abs=1e-6)
        for ours, theirs in zip(with_it.figures, without.figures, strict=True):
            assert torch.allclose(ours.float(), theirs.float(), atol=1e-6)


def test_scaled_clipping_clips_small_regions_no_more_than_large_ones() -> None:
    # Independent positions: the log-ratio of n tokens spreads like 1 / sqrt(n), and so does the scaled range.
    n = 512
    batch = batched([two_regions()] * n)
    old, moved = torch.zeros(n, 1, N), 0.01 * random(7, n, 1, N)
    shares = {}
    for scaled in (True, False):
        settings = LossSettings(clip_range=1.25e-3, scale_regions=scaled)
        loss = spatial_loss(moved, old, torch.ones(n, 3), batch, torch.ones(1), settings)
        shares[scaled] = loss.figures.clip_fraction[0]
    # One standard deviation (.01 / 8) in every region: about .317 outside.
    assert shares[True].tolist() == pytest.approx([0.317] * 3, abs=0.06)
    assert shares[False][1] > 0.85


def test_clipping_by_hand() -> None:
    batch, eps = everything(1), 0.2
    for log_ratio, advantage, expected in [
        (math.log(1.5), 1.0, 1.2),
        (math.log(1.5), -1.0, -1.5),
        (math.log(0.5), 1.0, 0.5),
        (math.log(0.5), -1.0, -0.8),
        (math.log(1.1), 2.0, 2.2),
    ]:
        now = torch.full((1, 1, N), log_ratio, requires_grad=True)
        loss = spatial_loss(
            now,
            torch.zeros(1, 1, N),
            torch.tensor([[advantage, 0.0]]),
            batch,
            torch.ones(1),
            LossSettings(clip_range=eps),
        )
        assert -loss.loss.item() == pytest.approx(expected, abs=1e-5)
        loss.loss.backward()
        assert (now.grad.abs().sum() == 0) == (expected in (1.2, -0.8))


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_a_log_ratio_far_off_is_clamped_before_exp(far: float) -> None:
    batch = regions()
    now = torch.full((B, T, N), far, requires_grad=True)
    for advantages, loss in ((region_advantages(), spatial_loss), (random(5, B), global_loss)):
        found = loss(now, torch.zeros(B, T, N), advantages, batch, ONES, LossSettings())
        assert torch.isfinite(found.loss)
        assert torch.isfinite(torch.autograd.grad(found.loss, now)[0]).all()
        assert found.figures.ratio_max.max().item() <= math.exp(5) * 1.0001


def test_the_penalty_by_hand() -> None:
    # Beta .1 on the 7 tokens of edit regions, .4 on the 57 others; KL 1 inside, 2 outside.
    batch = batched([two_regions()] * 2)
    away = (2 - batch.edit_share)[:, None].expand(2, T, N)
    settings = LossSettings(beta_edit=0.1, beta_background=0.4)
    zeros = torch.zeros(2, T, N)
    found = spatial_loss(zeros, zeros, torch.zeros(2, 3), batch, ONES, settings, away)
    assert found.loss.item() == pytest.approx((7 * 0.1 + 57 * 0.8) / 64, abs=1e-6)
    assert found.penalty.item() == pytest.approx(found.loss.item())
    assert found.policy.item() == 0
    assert found.figures.kl_inside.tolist() == pytest.approx([1] * T)
    assert found.figures.kl_outside.tolist() == pytest.approx([2] * T)
    everywhere = global_loss(zeros, zeros, torch.zeros(2), batch, ONES, settings, away)
    assert everywhere.loss.item() == pytest.approx(0.1 * (7 + 2 * 57) / 64, abs=1e-6)


def test_figures_tell_regions_apart() -> None:
    # Sample 1 has regions a, b; sample 2 one region. Only the second rollout's region b and the backgrounds move.
    batch = regions()
    moved = torch.zeros(B, T, N)
    moved[1, 2] = 0.3 * batch.masks[1, 1]
    moved[:, 0] = -0.2 * batch.masks[:, -1]
    settings = LossSettings(clip_range=0.1, scale_regions=False)
    found = spatial_loss(moved, torch.zeros(B, T, N), torch.zeros(B, 3), batch, ONES, settings).figures
    assert found.n_regions.tolist() == [4, 2, 4]
    assert found.clip_fraction[2].tolist() == pytest.approx([0, 0.5, 0])
    assert found.clip_fraction[0, -1].item() == 1
    assert found.ratio_max.tolist() == pytest.approx([1, 1, math.exp(0.3)], abs=1e-5)
    assert found.approx_kl_inside[2].item() == pytest.approx(0.045 / 6, abs=1e-6)  # one of six edit regions
    assert found.approx_kl_outside[1:].tolist() == [0, 0]
    assert found.approx_kl_outside[0].item() > 0.015


def test_a_region_with_a_missing_reward_pulls_nowhere_and_nothing_is_nan() -> None:
    rollout, batch = Rollout(), regions()
    advantages = region_advantages()
    advantages[0, 1] = 0.0
    found = gradient(
        spatial_loss(rollout.log_probs(), rollout.old, advantages, batch, ONES, LossSettings(clip_range=9)).loss,
        rollout,
    )
    assert (found[0][:, batch.masks[0, 1].bool()] == 0).all()
    assert torch.isfinite(found).all()


def test_twenty_regions_are_one_product() -> None:
    many = {f"{i:016x}": box(8 * (i % 8), 8 * (i // 8), 8 * (i % 8) + 8, 8 * (i // 8) + 8) for i in range(20)}
    batch, rollout = batched([token_masks(many, GRID)] * B), Rollout()
    loss = spatial_loss(rollout.log_probs(), rollout.old, random(5, B, 21), batch, ONES, LossSettings())
    assert loss.figures.clip_fraction.shape == (T, 21)
    assert torch.isfinite(gradient(loss.loss, rollout)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_range": 0.0},
        {"gamma": 1.5},
        {"beta_edit": 0.1, "beta_background": 0.05},
        {"beta_edit": -0.1},
        {"log_ratio_limit": 0.0},
        {"clip_range": math.nan},
        {"log_ratio_limit": 1000.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        LossSettings(**wrong)  # type: ignore[arg-type]


def test_permuted_regions_keep_everything_but_the_place() -> None:
    true = two_regions()
    moved = [permute_regions(true, f"sample-{i}", seed=1) for i in range(12)]
    for other in moved:
        assert other.keys == true.keys
        assert torch.equal(other.masks.sort(dim=1).values, true.masks.sort(dim=1).values)
        assert torch.equal(effective_tokens(other.masks), effective_tokens(true.masks))
        assert torch.allclose(other.masks.sum(dim=0), torch.ones(N))
        assert not torch.equal(other.masks, true.masks)
    assert len({tuple(other.masks.flatten().tolist()) for other in moved}) > 6


def test_permuted_regions_roll_over_rows_and_columns() -> None:
    # One token at row 2, column 3: wherever it lands, the next token on its right lands on its right, too.
    true = token_masks({"a": box(24, 16, 32, 24), "b": box(32, 16, 40, 24)}, GRID)
    for i in range(40):
        a, b = permute_regions(true, f"sample-{i}", seed=0).masks[:2].argmax(dim=1).tolist()
        assert (a // 8, (a % 8 + 1) % 8) == (b // 8, b % 8)


def test_permuted_regions_are_the_same_for_all_rollouts_of_a_group() -> None:
    one, again = (permute_regions(two_regions(), "sample", seed=1).masks for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, permute_regions(two_regions(), "sample", seed=2).masks)


def test_permuted_advantages_stay_in_their_group() -> None:
    groups = torch.tensor([0, 1, 0, 1])
    valid = torch.tensor([[True, True, True], [True, False, True], [True, True, True], [True, False, True]])
    advantages = torch.arange(1.0, 13.0).reshape(4, 3) * valid
    found = permute_advantages(advantages, groups, valid, torch.Generator().manual_seed(3))
    again = permute_advantages(advantages, groups, valid, torch.Generator().manual_seed(3))
    other = permute_advantages(advantages, groups, valid, torch.Generator().manual_seed(4))
    for group in (0, 1):
        rows = groups == group
        assert found[rows][valid[rows]].sort().values.tolist() == advantages[rows][valid[rows]].sort().values.tolist()
    assert (found[~valid] == 0).all()
    assert torch.equal(found, again)
    assert not torch.equal(found, advantages)
    assert not torch.equal(found, other)
    places = torch.stack(
        [permute_advantages(advantages, groups, valid, torch.Generator().manual_seed(i))[0, 0] for i in range(60)]
    )
    assert set(places.tolist()) == {1.0, 2.0, 3.0, 7.0, 8.0, 9.0}  # regions and rollouts of its own group alone
