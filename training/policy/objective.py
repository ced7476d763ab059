"""What a policy's update minimises: Flow-GRPO over whole images, SpatialFlow-GRPO over regions, and control arms.

| symbol | here | meaning |
|---|---|---|
| logp | `log_probs` | log-prob of every position of a stored step, the mean over channels, under the weights of now |
| logp_old | `old_log_probs` | the same under the weights that made the rollout |
| M | `regions.masks` | share of each token that belongs to each region |
| logp_r | `region_log_probs` | sum_N M logp / sum_N M |
| rho_r | | exp(logp_r - logp_r_old), the logarithm clamped first |
| A~ | `advantages` | of each region, mixed and clipped (`advantages.mixed_advantages`) |
| w_r | `region_weights` | ~ (sum_N M)^gamma, sums to 1 over a rollout's regions |
| eps_{r,t} | `clip_ranges` | eps sqrt(N / n_r) c_t / mean(c) |
| beta_N | | weight of the KL at each position, between beta_edit and beta_background by the share of edit regions |

    L = -mean_{B,T} sum_r w_r min(rho_r A~, clip(rho_r, 1 ± eps_{r,t}) A~) + mean_N beta_N KL_N

B rollouts, T trained steps, N tokens, R regions, the background last. All float32. The mean over t of the loss of
single steps, log_probs[:, t:t+1] with step_scale[t:t+1], is the loss of all steps at once: gradients add up over t.

Source: Flow-GRPO (Liu et al. 2025) for the whole image, SpatialFlow-GRPO (arXiv 2606.26872) for regions as an idea; the
formulas of regions, their weights and their clip ranges are this project's.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from schemas.errors import BadInput
from schemas.record import short_hash
from training.policy.token_masks import RegionBatch, TokenMasks, effective_tokens


@dataclass(frozen=True)
class LossSettings:
    """How the losses weigh and clip.

    clip_range: eps of a whole image at a step of mean scale. gamma: 1 weighs regions by area, 0 all alike. beta_edit,
    beta_background: weight of the KL inside and outside edit regions, in the unit of the KL's own form. scale_regions:
    a wider clip range for smaller regions, whose log-ratios spread more. log_ratio_limit: the log-ratio is clamped to
    it before exp, beyond any that is still of use.
    """

    clip_range: float = 1e-4
    gamma: float = 0.5
    beta_edit: float = 0.0
    beta_background: float = 0.0
    scale_regions: bool = True
    log_ratio_limit: float = 5.0

    def __post_init__(self) -> None:
        if not self.clip_range > 0:
            raise BadInput("clip_range", f"is {self.clip_range}", "give a number above 0")
        if not 0 <= self.gamma <= 1:
            raise BadInput("gamma", f"is {self.gamma}", "give 0 to 1")
        if not 0 <= self.beta_edit <= self.beta_background:
            fault = f"is {self.beta_background} with beta_edit {self.beta_edit}"
            raise BadInput("beta_background", fault, "give no less to the background than to edits, nor below 0")
        if not 0 < self.log_ratio_limit <= 20:
            raise BadInput("log_ratio_limit", f"is {self.log_ratio_limit}", "give a number above 0, at most 20")


class Figures(NamedTuple):
    """What is logged of a loss, without gradient. Column r of R is edit region r, the last the background.

    clip_fraction: (T, R), of the rollouts that have the region, 0 where none has; n_regions: (R,), how many have it;
    ratio_max: (T,), largest rho; approx_kl_inside, _outside: (T,), mean of (log rho_r)^2 / 2 over edit regions, over
    backgrounds: old policy to new; kl_inside, _outside: (T,), KL to the reference over the tokens of edit regions, of
    backgrounds. The whole-image loss has one region, inside; its KL to the reference is told apart like the other's.
    """

    clip_fraction: Float[Tensor, "T R"]
    n_regions: Int[Tensor, " R"]
    ratio_max: Float[Tensor, " T"]
    approx_kl_inside: Float[Tensor, " T"]
    approx_kl_outside: Float[Tensor, " T"]
    kl_inside: Float[Tensor, " T"]
    kl_outside: Float[Tensor, " T"]


class Loss(NamedTuple):
    """loss: scalar, to minimise; policy, penalty: its two parts, without gradient; figures: to log."""

    loss: Float[Tensor, ""]
    policy: Float[Tensor, ""]
    penalty: Float[Tensor, ""]
    figures: Figures


def region_log_probs(log_probs: Float[Tensor, "B T N"], masks: Float[Tensor, "B R N"]) -> Float32[Tensor, "B T R"]:
    """logp_r = sum_N M logp / sum_N M; 0 for a region without mass. Shapes: (B, T, N), (B, R, N) -> (B, T, R) float32.

    Linear, so of a difference of log-probs it is the difference of the regions': taken that way it loses no digits.
    """
    with torch.autocast(log_probs.device.type, enabled=False):
        weights = masks.float() / masks.float().sum(dim=-1, keepdim=True).clamp(min=1e-6)
        return log_probs.float() @ weights.transpose(1, 2)


def region_weights(regions: RegionBatch, gamma: float) -> Float[Tensor, "B R"]:
    """w_r ~ (sum_N M)^gamma over the regions that a rollout has, summing to 1. Returns: (B, R), 0 for padding."""
    raw = regions.mass.pow(gamma) * regions.valid
    return raw / raw.sum(dim=1, keepdim=True).clamp(min=1e-6)


def clip_ranges(
    regions: RegionBatch, clip_range: float, step_scale: Float[Tensor, " T"], *, scale_regions: bool = True
) -> Float[Tensor, "B T R"]:
    """eps_{r,t} = eps sqrt(N / n_r) c_t / mean(c). Returns: (B, T, R).

    step_scale: (T,), c_t / mean(c) of each step (`flow_sde.relative_clip_scales`), or ones for no scaling by step.
    scale_regions: without, sqrt(N / n_r) is 1.
    """
    if scale_regions:
        widths = (regions.tokens.sum(dim=1, keepdim=True) / effective_tokens(regions.masks).clamp(min=1e-6)).sqrt()
    else:
        widths = torch.ones_like(regions.mass)
    return clip_range * widths[:, None, :] * step_scale.to(widths)[None, :, None]


def spatial_loss(
    log_probs: Float[Tensor, "B T N"],
    old_log_probs: Float[Tensor, "B T N"],
    advantages: Float[Tensor, "B R"],
    regions: RegionBatch,
    step_scale: Float[Tensor, " T"],
    settings: LossSettings,
    kl: Float[Tensor, "B T N"] | None = None,
) -> Loss:
    """SpatialFlow-GRPO's loss.

    Shapes: log_probs, old_log_probs, kl (B, T, N); advantages (B, R), A~ of each region; step_scale (T,). kl: of every
    position to the reference policy (`flow_sde.kl`); None where there is no penalty and nothing to log.
    """
    log_ratio = region_log_probs(log_probs - old_log_probs, regions.masks)
    clip = clip_ranges(regions, settings.clip_range, step_scale, scale_regions=settings.scale_regions)
    objective, ratio = _clipped(log_ratio, advantages[:, None], clip, settings.log_ratio_limit)
    weights = region_weights(regions, settings.gamma)
    policy = -(weights[:, None] * objective).sum(dim=-1).mean()
    share = regions.edit_share
    beta = settings.beta_edit * share + settings.beta_background * (1 - share)
    figures = _figures(log_ratio.detach(), ratio.detach(), clip, regions.valid, regions, kl)
    return _with_penalty(policy, beta, regions, kl, figures)


def global_loss(
    log_probs: Float[Tensor, "B T N"],
    old_log_probs: Float[Tensor, "B T N"],
    advantages: Float[Tensor, " B"],
    regions: RegionBatch,
    step_scale: Float[Tensor, " T"],
    settings: LossSettings,
    kl: Float[Tensor, "B T N"] | None = None,
) -> Loss:
    """Flow-GRPO's loss: one ratio and one advantage of the whole image, one beta (beta_edit) everywhere.

    Shapes as `spatial_loss`, but advantages (B,). regions: tells padding tokens, and inside from outside in the
    figures; it has no other part in the loss. For Flow-GRPO as published give ones as step_scale.
    """
    tokens = regions.tokens[:, None].float()
    log_ratio = ((log_probs - old_log_probs).float() * tokens).sum(dim=-1, keepdim=True) / tokens.sum(dim=-1)[..., None]
    clip = settings.clip_range * step_scale.to(log_ratio)[None, :, None].expand_as(log_ratio)
    objective, ratio = _clipped(log_ratio, advantages[:, None, None], clip, settings.log_ratio_limit)
    policy = -objective.mean()
    beta = torch.full_like(regions.edit_share, settings.beta_edit)
    whole = torch.ones_like(regions.valid[:, :1])
    figures = _figures(log_ratio.detach(), ratio.detach(), clip, whole, regions, kl)
    return _with_penalty(policy, beta, regions, kl, figures)


def permute_regions(masks: TokenMasks, sample_id: str, seed: int) -> TokenMasks:
    """The control arm of permuted masks: all regions rolled together over the grid, by an offset drawn for the sample.

    A roll keeps everything but the place: the number of regions, their areas and shapes (as on a ring), who borders on
    whom, that they fill the grid, so their weights and clip ranges too. Another sample's masks would change most of
    these. The offset hangs on seed and sample alone: one for all rollouts of a group, in every process, after every
    restart. It is any but none at all, all alike, so what overlap is left is chance's.
    """
    rows, columns = masks.grid_hw
    rng = np.random.default_rng(int(short_hash("permuted regions", sample_id, seed), 16))
    down, right = divmod(int(rng.integers(1, rows * columns)), columns)
    rolled = masks.masks.reshape(-1, rows, columns).roll((down, right), dims=(1, 2))
    return replace(masks, masks=rolled.flatten(1))


def permute_advantages(
    advantages: Float[Tensor, "B R"],
    groups: Int[Tensor, " B"],
    valid: Bool[Tensor, "B R"],
    generator: torch.Generator,
) -> Float[Tensor, "B R"]:
    """The control arm of permuted advantages: those of all regions of all rollouts of a group, shuffled among them.

    Give the regions' own advantages, before they are mixed with the whole image's: that part then stays, and only what
    regions tell is gone. The values stay the same ones, so their mean, spread and clipping do.

    Shapes: advantages, valid (B, R); groups (B,), a number for each sample id, on the CPU.
    generator: of the CPU. Returns: (B, R), 0 where not valid.
    """
    rollout, region = torch.nonzero(valid.cpu(), as_tuple=True)
    drawn = torch.randperm(len(rollout), generator=generator)
    shuffled = drawn[groups[rollout][drawn].sort(stable=True).indices]
    places = groups[rollout].sort(stable=True).indices
    values = advantages.cpu()[rollout, region]
    permuted = torch.zeros_like(advantages, device="cpu")
    permuted[rollout[places], region[places]] = values[shuffled]
    return permuted.to(advantages.device)


def _clipped(
    log_ratio: Float[Tensor, "B T R"], advantages: Float[Tensor, "B 1 #R"], clip: Float[Tensor, "B T R"], limit: float
) -> tuple[Float[Tensor, "B T R"], Float[Tensor, "B T R"]]:
    """min(rho A, clip(rho, 1 ± eps) A) and rho."""
    ratio = log_ratio.clamp(-limit, limit).exp()
    return torch.minimum(ratio * advantages, torch.clamp(ratio, 1 - clip, 1 + clip) * advantages), ratio


def _with_penalty(
    policy: Float[Tensor, ""],
    beta: Float[Tensor, "B N"],
    regions: RegionBatch,
    kl: Float[Tensor, "B T N"] | None,
    figures: Figures,
) -> Loss:
    """The loss with mean_{B,T} mean_N beta_N KL_N, over tokens that are no padding."""
    if kl is None:
        return Loss(policy, policy.detach(), torch.zeros_like(policy.detach()), figures)
    tokens = regions.tokens.float()
    penalty = ((beta * tokens)[:, None] * kl.float()).sum(dim=-1) / tokens.sum(dim=1, keepdim=True)
    return Loss(policy + penalty.mean(), policy.detach(), penalty.mean().detach(), figures)


def _figures(
    log_ratio: Float[Tensor, "B T R"],
    ratio: Float[Tensor, "B T R"],
    clip: Float[Tensor, "B T R"],
    valid: Bool[Tensor, "B R"],
    regions: RegionBatch,
    kl: Float[Tensor, "B T N"] | None,
) -> Figures:
    """What is logged of a loss."""
    counted = valid[:, None].float()  # (B, 1, R)
    clipped = (((ratio - 1).abs() > clip) * counted).sum(dim=0) / counted.sum(dim=0).clamp(min=1)
    squares = log_ratio.square() / 2
    whole = valid.shape[1] == 1
    edits, backgrounds = (slice(None), slice(0, 0)) if whole else (slice(0, -1), slice(-1, None))
    inside, tokens = regions.edit_share[:, None], regions.tokens.float()[:, None]  # (B, 1, N)
    positions = torch.zeros_like(tokens) if kl is None else kl.detach().float()
    positions = positions.expand(-1, ratio.shape[1], -1)
    return Figures(
        clipped,
        valid.sum(dim=0),
        torch.where(valid[:, None], ratio, 0).amax(dim=(0, 2)),
        _mean_over(squares[..., edits], counted[..., edits]),
        _mean_over(squares[..., backgrounds], counted[..., backgrounds]),
        _mean_over(positions, inside * tokens),
        _mean_over(positions, (1 - inside) * tokens),
    )


def _mean_over(values: Float[Tensor, "B T X"], weights: Float[Tensor, "B 1 X"]) -> Float[Tensor, " T"]:
    """The weighted mean over rollouts and the last dimension, 0 where nothing weighs. (B, T, X), (B, 1, X) -> (T,)."""
    weights = weights.expand_as(values)
    return (values * weights).sum(dim=(0, 2)) / weights.sum(dim=(0, 2)).clamp(min=1e-6)
