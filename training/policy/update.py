"""One optimiser step's gradient: log-probs under the weights of now, the loss of regions or of the whole image.

Samples of one token grid are one `PolicyBatch`; a step adds up the gradients of its batches, `train_batch` samples and
one trained step at a time, so memory does not grow with the rollout.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.policy.config import PolicyConfig
from training.policy.flow_sde import kl as kl_of
from training.policy.flow_sde import log_prob, relative_clip_scales, sde_mean_std, step_std
from training.policy.objective import Figures, LossSettings, global_loss, region_log_probs, spatial_loss
from training.policy.protocol import Conditioning, Policy
from training.policy.sampling import Samples
from training.policy.token_masks import RegionBatch


@dataclass(frozen=True)
class PolicyBatch:
    """B samples to learn from. advantages: (B, R) for the spatial method, (B,) for the global one."""

    conditioning: Conditioning
    samples: Samples
    regions: RegionBatch
    advantages: Tensor

    def __len__(self) -> int:
        return len(self.advantages)

    def take(self, rows: Tensor) -> "PolicyBatch":
        """The samples at these rows."""
        states = (self.samples.x, self.samples.x_next, self.samples.log_prob)
        x, x_next, old = (state[:, rows] for state in states)
        regions = RegionBatch(self.regions.masks[rows], self.regions.tokens[rows])
        samples = Samples(self.samples.latents[rows], x, x_next, old)
        return PolicyBatch(self.conditioning.take(rows), samples, regions, self.advantages[rows])


def loss_settings(config: PolicyConfig) -> LossSettings:
    """What the losses read of the config."""
    return LossSettings(
        clip_range=config.clip,
        gamma=config.gamma,
        beta_edit=config.beta_edit,
        beta_background=config.beta_background if config.method == "spatial" else config.beta_edit,
        scale_regions=config.scaled_clip,
    )


def pieces(batch: PolicyBatch, size: int) -> Iterator[PolicyBatch]:
    """`batch`, at most `size` samples at a time."""
    for first in range(0, len(batch), size):
        yield batch.take(torch.arange(first, min(first + size, len(batch))))


def log_prob_now(policy: Policy, batch: PolicyBatch, config: PolicyConfig, place: int) -> tuple[Tensor, Tensor, Tensor]:
    """(log-prob (B, N), mean (B, N, C), s) of trained step number `place` under the weights of now."""
    sigmas = policy.sigmas(config.sampling_steps, batch.conditioning.tokens)
    step = config.trained_steps[place]
    x, device = batch.samples.x[place], batch.conditioning.source.device
    v = policy.velocity(x.float(), sigmas[step].to(device).expand(len(x)), batch.conditioning)
    mean, s = sde_mean_std(x, v, sigmas[step], sigmas[step + 1], step_std(sigmas[step], sigmas, config.noise))
    return log_prob(batch.samples.x_next[place], mean, s), mean, s


@dataclass(frozen=True)
class Logged:
    """The loss metrics of one micro-batch at one trained step; `place` is its index among the trained ones.

    weight: its part of all that an optimiser step learns from; kl_weight: the same where the KL to the reference was
    measured, else 0.
    """

    place: int
    weight: float
    kl_weight: float
    figures: Figures
    loss: float


def accumulate(policy: Policy, batch: PolicyBatch, config: PolicyConfig, share: float) -> list[Logged]:
    """Accumulates the gradient of a batch; returns what to log, by micro-batch and trained step.

    share: the batch's part of all the step's samples, on all processes. The KL to the reference policy is a penalty
    where a beta is set; else it is measured on the first piece alone.
    """
    settings = loss_settings(config)
    n_steps = len(config.trained_steps)
    sigmas = policy.sigmas(config.sampling_steps, batch.conditioning.tokens)
    scales = relative_clip_scales(sigmas, config.trained_steps, config.noise)
    if not config.scaled_clip:
        scales = torch.ones_like(scales)
    penalised = settings.beta_background > 0 or settings.beta_edit > 0
    loss_of = spatial_loss if config.method == "spatial" else global_loss
    logged = []
    for number, piece in enumerate(pieces(batch, config.train_batch)):
        weight = share * len(piece) / len(batch) / n_steps
        for place in range(n_steps):
            now, mean, s = log_prob_now(policy, piece, config, place)
            penalty = _penalty(policy, piece, config, place, mean, s) if penalised or number == 0 else None
            loss = loss_of(
                now[:, None],
                piece.samples.log_prob[place][:, None],
                piece.advantages,
                piece.regions,
                scales[place : place + 1],
                settings,
                None if penalty is None else penalty[:, None],
            )
            (weight * loss.loss).backward()  # type: ignore[no-untyped-call]
            measured = 0.0 if penalty is None else weight
            logged.append(Logged(place, weight, measured, loss.figures, float(loss.loss.detach())))
    return logged


def _penalty(policy: Policy, piece: PolicyBatch, config: PolicyConfig, place: int, mean: Tensor, s: Tensor) -> Tensor:
    """KL (B, N) of a trained step to the reference policy's; its gradient goes through `mean` alone."""
    sigmas = policy.sigmas(config.sampling_steps, piece.conditioning.tokens)
    step = config.trained_steps[place]
    with torch.no_grad(), policy.reference():
        _, reference, _ = log_prob_now(policy, piece, config, place)
    return kl_of(mean, reference, s, sigmas[step + 1] - sigmas[step], config.kl)


@torch.no_grad()
def first_step_gap(policy: Policy, batch: PolicyBatch, config: PolicyConfig) -> float:
    """Largest |log-prob now - log-prob of the rollout| of a region or image while the weights are still the same.

    It is 0 where rollout and update run the same kernels; in bf16 it can exceed the clip range. The first piece tells.
    """
    piece = next(pieces(batch, config.train_batch))
    now = [log_prob_now(policy, piece, config, place)[0] for place in range(len(config.trained_steps))]
    gaps = (torch.stack(now) - piece.samples.log_prob).transpose(0, 1)  # (B, T, N)
    of_regions = region_log_probs(gaps, piece.regions.masks)
    return float(torch.stack([gaps.mean(dim=-1).abs().max(), of_regions.abs().max()]).max())


@torch.no_grad()
def with_recomputed_log_probs(policy: Policy, batch: PolicyBatch, config: PolicyConfig) -> PolicyBatch:
    """`batch` with the rollout's log-probs recomputed by the update's forward pass."""
    taken = [
        torch.stack([log_prob_now(policy, piece, config, place)[0] for place in range(len(config.trained_steps))])
        for piece in pieces(batch, config.train_batch)
    ]
    return replace(batch, samples=replace(batch.samples, log_prob=torch.cat(taken, dim=1)))
