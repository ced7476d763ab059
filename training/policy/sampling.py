"""Samples edits: stochastic steps where the policy is trained, the ODE's everywhere else, and the ODE's alone to test.

Every sample has a stream of noise of its own, drawn from seed, update, request and number in the update. So the same
samples come out in any batch, on any number of processes, and after any interruption; and a request that an update asks
twice, where the requests go round, gets samples of its own each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.record import short_hash
from training.policy.flow_sde import ode_step, sde_step, step_std
from training.policy.protocol import Conditioning, Policy


@dataclass(frozen=True)
class Sampling:
    """How edits are sampled. steps: of the whole way; trained: the stochastic ones, 0 is the first; noise: level a."""

    steps: int
    trained: tuple[int, ...]
    noise: float


@dataclass(frozen=True)
class Samples:
    """Rollouts of one token grid; T trained steps, B samples.

    latents: (B, N, C), clean; x, x_next: (T, B, N, C) in the storage type, before and after each trained step;
    log_prob: (T, B, N) float32, of the policy that sampled.
    """

    latents: Tensor
    x: Tensor
    x_next: Tensor
    log_prob: Tensor


def noise_of(seed: int, update: int, request: str, number: int) -> torch.Generator:
    """The stream of noise of sample `number` of a request in an update."""
    return torch.Generator().manual_seed(int(short_hash("rollout", seed, update, request, number), 16) >> 1)


def drawn(streams: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, *shape), one row from each stream."""
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams])


@torch.no_grad()
def roll_out(
    policy: Policy, seen: Conditioning, streams: Sequence[torch.Generator], sampling: Sampling, dtype: torch.dtype
) -> Samples:
    """One sample for each row of `seen` and its stream of noise; states are kept in `dtype`."""
    device, shape = seen.source.device, (seen.tokens, seen.channels)
    sigmas = policy.sigmas(sampling.steps, seen.tokens)
    x = drawn(streams, shape).to(device, dtype)
    before, after, log_probs = [], [], []
    for step in range(sampling.steps):
        sigma, sigma_next = sigmas[step], sigmas[step + 1]
        v = policy.velocity(x.float(), sigma.to(device).expand(len(x)), seen)
        if step in sampling.trained:
            eps = drawn(streams, shape).to(device)
            taken = sde_step(x, v, sigma, sigma_next, step_std(sigma, sigmas, sampling.noise), eps, dtype)
            before.append(x)
            after.append(taken.x_next)
            log_probs.append(taken.log_prob)
            x = taken.x_next
        else:
            x = ode_step(x, v, sigma, sigma_next, dtype)
    return Samples(x, torch.stack(before), torch.stack(after), torch.stack(log_probs))


@torch.no_grad()
def sample_ode(policy: Policy, seen: Conditioning, streams: Sequence[torch.Generator], steps: int) -> Tensor:
    """Clean latents (B, N, C) by the ODE alone, from the first noise of each stream."""
    device = seen.source.device
    sigmas = policy.sigmas(steps, seen.tokens)
    x = drawn(streams, (seen.tokens, seen.channels)).to(device)
    for step in range(steps):
        v = policy.velocity(x, sigmas[step].to(device).expand(len(x)), seen)
        x = ode_step(x, v, sigmas[step], sigmas[step + 1], torch.float32)
    return x
