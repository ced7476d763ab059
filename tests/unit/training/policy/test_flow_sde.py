"""The step of the flow: against torch's own distributions, diffusers' scheduler, and cases worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from schemas.errors import BadInput
from training.policy.flow_sde import (
    clip_scale_t,
    flux2_sigmas,
    kl,
    log_prob,
    ode_step,
    relative_clip_scales,
    sde_mean_std,
    sde_step,
    step_std,
    uniform_sigmas,
)

B, N, C = 3, 5, 4


def noise_like(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (B, N, C)), generator=torch.Generator().manual_seed(seed))


def test_uniform_sigmas_go_from_1_to_0() -> None:
    assert torch.allclose(uniform_sigmas(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


@pytest.mark.parametrize(("n_steps", "n_tokens"), [(10, 1024), (4, 64), (50, 4096), (28, 4301), (10, 9000), (1, 1024)])
def test_flux2_sigmas_are_those_of_diffusers(n_steps: int, n_tokens: int) -> None:
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0, time_shift_type="exponential")
    mu = compute_empirical_mu(image_seq_len=n_tokens, num_steps=n_steps)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / n_steps, n_steps), mu=mu)
    assert torch.allclose(flux2_sigmas(n_steps, n_tokens), scheduler.sigmas, rtol=0, atol=1e-6)


def test_ode_steps_are_those_of_diffusers() -> None:
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.25, 4))
    x, v = noise_like(1), noise_like(2)
    theirs = scheduler.step(v, scheduler.timesteps[0], x).prev_sample
    assert torch.allclose(ode_step(x, v, 1.0, 0.75, torch.float32), theirs, atol=1e-6)


@given(
    inner=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12, unique=True),
    noise=st.floats(0.05, 1.5),
)
def test_the_first_step_has_the_noise_level_as_its_spread_on_any_schedule(inner: list[float], noise: float) -> None:
    sigmas = torch.tensor([1.0, *sorted(inner, reverse=True), 0.0])
    std = step_std(sigmas[0], sigmas, noise)
    _, s = sde_mean_std(noise_like(1), noise_like(2), sigmas[0], sigmas[1], std)
    assert s.item() == pytest.approx(noise, rel=1e-5)


def test_mean_and_spread_by_hand() -> None:
    # sigma .5 -> .25 on the schedule 1, .5, .25, 0 with a = .8: std = .8 sqrt(.5 / .5) = .8, std^2 / (2 sigma) = .64
    sigmas = torch.tensor([1.0, 0.5, 0.25, 0.0])
    std = step_std(0.5, sigmas, 0.8)
    mean, s = sde_mean_std(torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0), 0.5, 0.25, std)
    assert std.item() == pytest.approx(0.8)
    # 2 (1 - .64 * .25) + 3 (1 + .64 * .5) (-.25) = 2 * .84 - 3 * 1.32 * .25
    assert mean.item() == pytest.approx(0.69, abs=1e-6)
    assert s.item() == pytest.approx(0.4)


@given(sigma=st.floats(0.1, 1), share=st.floats(0.05, 0.95))
def test_noise_0_is_eulers_step(sigma: float, share: float) -> None:
    x, v, sigma_next = noise_like(1), noise_like(2), sigma * share
    std = step_std(sigma, torch.tensor([1.0, 0.9, 0.0]), 0.0)
    mean, s = sde_mean_std(x, v, sigma, sigma_next, std)
    assert torch.equal(mean, ode_step(x, v, sigma, sigma_next, torch.float32))
    assert s.item() == 0


def test_log_prob_is_torchs_own_averaged_over_channels_alone() -> None:
    mean, x_next = noise_like(1), noise_like(2)
    theirs = Normal(mean, 0.37).log_prob(x_next)
    ours = log_prob(x_next, mean, 0.37)
    assert ours.shape == (B, N)
    assert torch.allclose(ours, theirs.mean(dim=-1), atol=1e-5)
    assert torch.allclose(ours.mean(dim=-1), theirs.mean(dim=(1, 2)), atol=1e-5)


def test_log_prob_is_float32_and_of_what_was_stored() -> None:
    x, v, eps = noise_like(1).bfloat16(), noise_like(2).bfloat16(), noise_like(3)
    x_next, stored = sde_step(x, v, 0.5, 0.25, 0.8, eps, torch.bfloat16)
    mean, s = sde_mean_std(x, v, 0.5, 0.25, 0.8)
    assert x_next.dtype == torch.bfloat16
    assert stored.dtype == mean.dtype == torch.float32
    assert torch.equal(stored, log_prob(x_next, mean, s))
    exact = log_prob(mean + s * eps, mean, s)
    assert (stored - exact).abs().max() > 1e-4  # rounding is seen by the log-prob


def test_the_step_is_drawn_around_its_mean() -> None:
    eps = noise_like(3)
    x_next, _ = sde_step(noise_like(1), noise_like(2), 0.5, 0.25, 0.8, eps, torch.float32)
    mean, s = sde_mean_std(noise_like(1), noise_like(2), 0.5, 0.25, 0.8)
    assert torch.allclose((x_next - mean) / s, eps, atol=1e-5)


def test_kl_is_torchs_own_and_the_other_form_is_dt_times_it() -> None:
    mean, reference = noise_like(1), noise_like(2)
    theirs = kl_divergence(Normal(mean, 0.3), Normal(reference, 0.3)).mean(dim=-1)
    ours = kl(mean, reference, 0.3, -0.1)
    assert ours.shape == (B, N)
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert torch.allclose(kl(mean, reference, 0.3, -0.1, "flow-grpo"), 0.1 * theirs, rtol=1e-5)


def test_the_published_kl_divides_by_the_diffusion_coefficient() -> None:
    sigmas = uniform_sigmas(10)
    std = step_std(sigmas[3], sigmas, 0.7)
    mean, s = sde_mean_std(noise_like(1), noise_like(2), sigmas[3], sigmas[4], std)
    published = (mean - noise_like(3)).square().mean(dim=-1) / (2 * std.square())
    ours = kl(mean, noise_like(3), s, sigmas[4] - sigmas[3], "flow-grpo")
    assert torch.allclose(ours, published, rtol=1e-5)


def test_a_step_per_rollout_is_each_rollouts_own_step() -> None:
    sigmas = uniform_sigmas(8)
    steps = torch.tensor([1, 4, 6])
    x, v, eps, reference = noise_like(1), noise_like(2), noise_like(3), noise_like(4)
    sigma, sigma_next = sigmas[steps], sigmas[steps + 1]
    std = step_std(sigma, sigmas, 0.7)
    together = sde_step(x, v, sigma, sigma_next, std, eps, torch.float32)
    mean, s = sde_mean_std(x, v, sigma, sigma_next, std)
    distance = kl(mean, reference, s, sigma_next - sigma, "flow-grpo")
    for b in range(B):
        alone = sde_step(x[b], v[b], sigma[b], sigma_next[b], std[b], eps[b], torch.float32)
        assert torch.allclose(together.x_next[b], alone.x_next, atol=1e-6)
        assert torch.allclose(together.log_prob[b], alone.log_prob, atol=1e-5)
        own = kl(mean[b], reference[b], s[b], sigma_next[b] - sigma[b], "flow-grpo")
        assert torch.allclose(distance[b], own, rtol=1e-5)


def test_clip_scale_is_how_far_a_change_of_v_moves_the_mean() -> None:
    sigmas = flux2_sigmas(10, 1024)
    x, v, change = noise_like(1), noise_like(2), noise_like(3)
    for step in range(9):
        std = step_std(sigmas[step], sigmas, 0.7)
        mean, s = sde_mean_std(x, v, sigmas[step], sigmas[step + 1], std)
        moved, _ = sde_mean_std(x, v + change, sigmas[step], sigmas[step + 1], std)
        scale = clip_scale_t(sigmas[step], sigmas[step + 1], std)
        assert torch.allclose((moved - mean) / s, -scale * change, rtol=1e-3, atol=1e-3)


def test_clip_scales_spread_as_much_as_measured_elsewhere() -> None:
    # The method's figures, over all ten steps: 12 times on a uniform schedule, 62 on FLUX.2-klein's at 512 px.
    for sigmas, ten, nine in ((uniform_sigmas(10), 12, 8), (flux2_sigmas(10, 1024), 62, 27)):
        every = clip_scale_t(sigmas[:-1], sigmas[1:], step_std(sigmas[:-1], sigmas, 0.7))
        trained = relative_clip_scales(sigmas, range(9), 0.7)
        assert round((every.max() / every.min()).item()) == ten
        assert round((trained.max() / trained.min()).item()) == nine  # what is left when the last is the ODE's
        assert trained.mean().item() == pytest.approx(1)
        assert torch.allclose(trained, every[:9] / every[:9].mean())


def test_the_last_step_is_never_stochastic() -> None:
    x = noise_like(1)
    with pytest.raises(BadInput, match="last one"):
        sde_step(x, x, 0.25, 0.0, 0.4, x, torch.float32)
    with pytest.raises(BadInput, match="the last step is the ODE's"):
        relative_clip_scales(uniform_sigmas(10), [0, 9], 0.7)
    with pytest.raises(BadInput, match="no noise"):
        sde_step(x, x, 0.5, 0.25, 0.0, x, torch.float32)


def test_an_sde_last_step_would_leave_noise_in_the_picture() -> None:
    # Why the last step is the ODE's; the method's figure for klein's ten steps at 512 px is .42.
    sigmas = flux2_sigmas(10, 1024)
    _, s = sde_mean_std(noise_like(1), noise_like(2), sigmas[9], sigmas[10], step_std(sigmas[9], sigmas, 0.7))
    assert s.item() == pytest.approx(0.42, abs=0.005)


def test_gradients_reach_v_through_mean_alone() -> None:
    v = noise_like(2).requires_grad_()
    mean, s = sde_mean_std(noise_like(1), v, 0.5, 0.25, 0.8)
    x_next = noise_like(3)
    log_prob(x_next, mean, s).sum().backward()
    # d logp / d mean = (x - mean) / s^2 / C; d mean / d v = 1.32 * -.25
    expected = (x_next - mean.detach()) / s.square() / C * 1.32 * -0.25
    assert torch.allclose(v.grad, expected, atol=1e-5)
    assert math.isfinite(v.grad.sum().item())
