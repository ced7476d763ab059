"""One step of Flow-GRPO on a rectified flow, and what is known of it: mean, spread, log-prob and KL of every position.

| symbol | here | meaning |
|---|---|---|
| sigma | `sigma`, `sigmas` | noise share, from 1 (pure noise) to 0 (image); `x_sigma = (1-sigma) x0 + sigma eps` |
| v | `v` | guidance-combined velocity `eps - x0`, the same in rollout, update and reference |
| dt | `dt` | `sigma_next - sigma`, below 0 |
| a | `noise` | noise level of the rollouts, .7 as published; 0 is the ODE |
| std | `std` | diffusion coefficient `a sqrt(sigma / (1 - min(sigma, sigmas[1])))` |
| s | `s` | the step's standard deviation `std sqrt(-dt)`: exactly `a` at sigma = 1, on any schedule |
| mean | `mean` | `x (1 + std^2/(2 sigma) dt) + v (1 + std^2 (1-sigma)/(2 sigma)) dt` |
| c_t | `clip_scale_t` | how far v moves the mean, in units of s: `(1 + std^2 (1-sigma)/(2 sigma)) sqrt(-dt)/std` |

B rollouts, N positions (tokens), C channels. Everything of a step (sigma, sigma_next, std, s, dt) is a number, a scalar
tensor, or a tensor over the leading dimensions of x: (B,) for x (B, N, C). Computed in float32 whatever x and v are.
The last step is always the ODE's: an SDE step to sigma 0 leaves noise in the picture, so it has no log-prob.

Source: Flow-GRPO (Liu et al. 2025), equations of the SDE step; its log-prob is kept per position here.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from schemas.errors import BadInput

Latents = Float[Tensor, "*B N C"]
Latents32 = Float32[Tensor, "*B N C"]
Positions32 = Float32[Tensor, "*B N"]
Step32 = Float32[Tensor, "..."]
Level = float | Float[Tensor, "..."]
KlForm = Literal["gaussian", "flow-grpo"]

#: FLUX.2's shift grows with the number of tokens along one line at 10 steps and another at 200: slope, offset.
_MU_AT_10, _MU_AT_200 = (8.73809524e-05, 1.89833333), (0.00016927, 0.45666666)
#: Beyond so many tokens the line of 200 steps holds for any number of steps.
_MANY_TOKENS = 4300


class SdeStep(NamedTuple):
    """One stochastic step. x_next: (B, N, C) in the storage dtype; log_prob: (B, N) float32, of x_next as stored."""

    x_next: Latents
    log_prob: Positions32


def uniform_sigmas(n_steps: int) -> Float32[Tensor, " {n_steps}+1"]:
    """(n_steps + 1,) float32, evenly from 1 to 0."""
    return torch.linspace(1, 0, n_steps + 1, dtype=torch.float64).float()


def flux2_sigmas(n_steps: int, n_tokens: int) -> Float32[Tensor, " {n_steps}+1"]:
    """FLUX.2's schedule, (n_steps + 1,) float32 from 1 to 0: even steps, shifted towards 1 by `exp(mu)`.

    n_tokens: target tokens of one image (references do not count).
    Source: diffusers' Flux2KleinPipeline with FlowMatchEulerDiscreteScheduler, exponential time shift.
    """
    even = torch.linspace(1, 1 / n_steps, n_steps, dtype=torch.float64)
    shift = math.exp(flux2_mu(n_tokens, n_steps))
    return torch.cat([shift / (shift + 1 / even - 1), torch.zeros(1, dtype=torch.float64)]).float()


def flux2_mu(n_tokens: int, n_steps: int) -> float:
    """FLUX.2's empirical shift: between its lines at 10 and at 200 steps. Source: diffusers, compute_empirical_mu."""
    at_10, at_200 = (slope * n_tokens + offset for slope, offset in (_MU_AT_10, _MU_AT_200))
    if n_tokens > _MANY_TOKENS:
        return at_200
    return at_200 + (at_200 - at_10) / 190 * (n_steps - 200)


def step_std(sigma: Level, sigmas: Float[Tensor, " S"], noise: float) -> Step32:
    """std at `sigma`, its shape. sigmas: the whole schedule, whose second value stands in for sigma = 1."""
    sigma = torch.as_tensor(sigma, dtype=torch.float32)
    return noise * torch.sqrt(sigma / (1 - torch.minimum(sigma, sigmas[1].to(sigma))))


def sde_mean_std(x: Latents, v: Latents, sigma: Level, sigma_next: Level, std: Level) -> tuple[Latents32, Step32]:
    """Mean of the next state and the step's standard deviation s.

    Shapes: x, v (B, N, C). Returns: mean (B, N, C) float32; s in the shape of the step, in units of x.
    """
    sigma, sigma_next, std = (torch.as_tensor(level, dtype=torch.float32) for level in (sigma, sigma_next, std))
    dt = sigma_next - sigma
    drift = std.square() / (2 * sigma)
    mean = x.float() * _over(1 + drift * dt, x) + v.float() * _over((1 + drift * (1 - sigma)) * dt, x)
    return mean, std * torch.sqrt(-dt)


def sde_step(
    x: Latents, v: Latents, sigma: Level, sigma_next: Level, std: Level, eps: Latents, dtype: torch.dtype
) -> SdeStep:
    """A stochastic step `mean + s eps`, rounded to the storage `dtype` before its log-prob is taken.

    Shapes: x, v, eps (B, N, C); eps standard normal.
    Raises: BadInput for the last step (sigma_next 0), which is always the ODE's, and where std is 0.
    """
    if bool((torch.as_tensor(sigma_next) <= 0).any()):
        raise BadInput("stochastic step", "is the last one of its schedule", "train only on the steps before it")
    if bool((torch.as_tensor(std) <= 0).any()):
        raise BadInput("stochastic step", "has no noise, so no log-prob", "set the noise level above 0")
    mean, s = sde_mean_std(x, v, sigma, sigma_next, std)
    x_next = (mean + _over(s, x) * eps.float()).to(dtype)
    return SdeStep(x_next, log_prob(x_next, mean, s))


def ode_step(x: Latents, v: Latents, sigma: Level, sigma_next: Level, dtype: torch.dtype) -> Latents:
    """Euler's step of the ODE, `x + v dt`, in the storage `dtype`. Shapes: x, v (B, N, C)."""
    dt = torch.as_tensor(sigma_next, dtype=torch.float32) - torch.as_tensor(sigma, dtype=torch.float32)
    return (x.float() + v.float() * _over(dt, x)).to(dtype)


def log_prob(x_next: Latents, mean: Latents, s: Level) -> Positions32:
    """log N(x_next; mean, s^2) of every position: (B, N) float32, the mean over channels.

    Shapes: x_next, mean (B, N, C); x_next as it is stored. The whole image's value is the mean over its positions.
    """
    spread = _over(torch.as_tensor(s, dtype=torch.float32), mean)
    squares = ((x_next.float() - mean.float()) / spread).square()
    return (-0.5 * squares - torch.log(spread) - 0.5 * math.log(2 * math.pi)).mean(dim=-1)


def kl(mean: Latents, mean_reference: Latents, s: Level, dt: Level, form: KlForm = "gaussian") -> Positions32:
    """KL of the step to the reference policy's of every position: (B, N) float32, the mean over channels.

    Shapes: means (B, N, C). form: `gaussian` is the true KL `(mean - mean_ref)^2 / (2 s^2)`; `flow-grpo` divides by
    `2 std^2`, so it is -dt times the true one: published betas belong to that form, and each form needs its own.
    """
    spread = _over(torch.as_tensor(s, dtype=torch.float32), mean)
    true = ((mean.float() - mean_reference.float()) / spread).square().mean(dim=-1) / 2
    return true if form == "gaussian" else true * -_over(torch.as_tensor(dt, dtype=torch.float32), true)


def clip_scale_t(sigma: Level, sigma_next: Level, std: Level) -> Step32:
    """c_t of a step, in the shape of the step: how far a change of v moves the mean, in units of s."""
    sigma, sigma_next, std = (torch.as_tensor(level, dtype=torch.float32) for level in (sigma, sigma_next, std))
    return (1 + std.square() * (1 - sigma) / (2 * sigma)) * torch.sqrt(sigma - sigma_next) / std


def relative_clip_scales(
    sigmas: Float[Tensor, " S"], steps: Sequence[int], noise: float
) -> Float32[Tensor, " {len(steps)}"]:
    """c_t over its mean, (T,) float32, for the trained `steps` of a schedule (0 is the first).

    Raises: BadInput where the last step is among them.
    """
    chosen = torch.tensor(list(steps))
    if len(steps) == 0 or int(chosen.min()) < 0 or int(chosen.max()) >= len(sigmas) - 2:
        fault = f"{list(steps)} are not all steps before the last of {len(sigmas) - 1}"
        raise BadInput("trained steps", fault, "the last step is the ODE's: leave it out")
    scales = clip_scale_t(sigmas[chosen], sigmas[chosen + 1], step_std(sigmas[chosen], sigmas, noise))
    return scales / scales.mean()


def _over(level: Step32, x: Float[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """A step's value over the leading dimensions of x, beside x; a scalar stays where it is (no copy to the device)."""
    return level if level.ndim == 0 else level.to(x.device).reshape(level.shape + (1,) * (x.ndim - level.ndim))
