"""From rewards to advantages: statistics of groups of rollouts, and the mix of regions and whole image.

| symbol | here | meaning |
|---|---|---|
| R_r | `rewards` | reward of a region or of the background, in [0, 1] (`training.policy.rewards`) |
| A | `group_advantages` | (r - mean) / sqrt(std^2 + floor^2) over the rollouts of one group |
| A~ | `mixed_advantages` | clip(lam A_region + (1 - lam) A_global, -5, 5) |

B rollouts, R regions of a rollout (the last column is the background's). A group is a sample id, or a sample id and a
planned region id; never the instruction's text, which different images share. A missing reward is NaN: it leaves mean
and standard deviation and its advantage is 0. Computed in float64, returned in float32.

Source: Flow-GRPO's group statistics, for the forms `group` and `global`; the floor and the regions are this project's.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Real
from torch import Tensor

Form = Literal["floor", "group", "global"]

#: What the published code adds to a standard deviation.
_PUBLISHED_OFFSET = 1e-4
LIMIT = 5.0


def area_weighted_mean(rewards: Float[Tensor, "B R"], areas: Float[Tensor, "B R"]) -> Float32[Tensor, " B"]:
    """One reward of the whole image: the mean of its regions' by area. Shapes: both (B, R). Returns: (B,) float32.

    areas: in tokens, 0 where a rollout has no such region. NaN where the reward of any region is missing: the mean of
    the rest would reward a rollout for a region so bad that nobody could score it.
    """
    shares = areas.double() / areas.double().sum(dim=1, keepdim=True)
    return (torch.where(areas > 0, rewards.double(), 0) * shares).sum(dim=1).float()


def group_advantages(
    rewards: Real[Tensor, "*S"], groups: Int[Tensor, "*S"], form: Form = "floor", floor: float = 0.02
) -> Float32[Tensor, "*S"]:
    """The advantage of every reward within its group, not clipped, 0 where it is missing or has no group.

    Shapes: rewards, groups the same, any: (B,) with a number for each sample id, (B, R) with one for each sample id and
    planned region; below 0: none.
    form: `floor` divides by sqrt(std^2 + floor^2), in the rewards' unit, so that one point lost by one of many rollouts
    is no catastrophe; `group` by the group's std + 1e-4; `global` by the std of all rewards + 1e-4. All with ddof 0.
    """
    values, numbers = rewards.double().flatten(), groups.flatten().to(rewards.device)
    present = ~torch.isnan(values) & (numbers >= 0)
    numbers = numbers.clamp(min=0)
    above = _above_least(values, numbers, present)
    means, stds = _moments(above, numbers, present)
    if form == "floor":
        divisor = (stds.square() + floor**2).sqrt()[numbers]
    elif form == "group":
        divisor = (stds + _PUBLISHED_OFFSET)[numbers]
    else:
        everyone = torch.zeros_like(numbers)
        divisor = _moments(_above_least(values, everyone, present), everyone, present)[1] + _PUBLISHED_OFFSET
    advantages = (above - means[numbers]) / divisor
    # 0 / 0 where rewards are equal and the floor is 0: no advantage either.
    kept = present & (stds[numbers] > 0)
    return torch.where(kept, advantages, 0).reshape(rewards.shape).float()


def mixed_advantages(
    region: Float[Tensor, "B R"], whole: Float[Tensor, " B"], lam: float, limit: float = LIMIT
) -> Float[Tensor, "B R"]:
    """A~ = clip(lam A_region + (1 - lam) A_global, -limit, limit). Shapes: region (B, R), whole (B,) -> (B, R)."""
    return (lam * region + (1 - lam) * whole[:, None]).clamp(-limit, limit)


def zero_std_ratio(rewards: Float[Tensor, "*S"], groups: Int[Tensor, "*S"]) -> float:
    """The share of groups without a signal: rewards all equal, or all missing. Shapes as `group_advantages`."""
    values, numbers = rewards.double().flatten(), groups.flatten().to(rewards.device)
    exists = numbers >= 0
    if not bool(exists.any()):
        return 0.0
    present = ~torch.isnan(values) & exists
    numbers = numbers.clamp(min=0)
    _, stds = _moments(_above_least(values, numbers, present), numbers, present)
    met = torch.bincount(numbers[exists]) > 0
    return float((stds[: len(met)][met] == 0).double().mean())


def _above_least(
    values: Float64[Tensor, " n"], numbers: Int[Tensor, " n"], present: Bool[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """How far each value lies above the least of its group, 0 where it is missing.

    So a shift of all rewards changes no bit of what follows, and equal rewards are exactly 0.
    """
    least = torch.full((int(numbers.max()) + 1,), torch.inf, dtype=torch.float64, device=values.device)
    least = least.scatter_reduce(0, numbers, torch.where(present, values, torch.inf), "amin")
    return torch.where(present, values - least[numbers], 0)


def _moments(
    values: Float64[Tensor, " n"], numbers: Int[Tensor, " n"], present: Bool[Tensor, " n"]
) -> tuple[Float64[Tensor, " g"], Float64[Tensor, " g"]]:
    """Mean and standard deviation (ddof 0) of every group's present values; 0 where nothing is."""
    zeros, kept = torch.zeros(int(numbers.max()) + 1, dtype=torch.float64, device=values.device), present.double()
    counts = zeros.index_add(0, numbers, kept).clamp(min=1)
    means = zeros.index_add(0, numbers, kept * values) / counts
    variances = zeros.index_add(0, numbers, kept * (values - means[numbers]).square()) / counts
    return means, variances.sqrt()
