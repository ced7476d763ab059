"""From scores to advantages: region rewards, statistics of groups of rollouts, and the mix of regions and whole image.

| symbol | here | meaning |
|---|---|---|
| phi_r | `phi` | min(success_r, preserve_r), 0..25; the background's is its one score |
| AES | `aesthetics` | min(naturalness, artifacts), 0..25 |
| R_r | `region_rewards` | sqrt(phi_r AES) / 25, in [0, 1] |
| A | `group_advantages` | (r - mean) / sqrt(std^2 + floor^2) over the rollouts of one group |
| A~ | `mixed_advantages` | clip(lam A_region + (1 - lam) A_global, -5, 5) |

B rollouts, R regions of a rollout (the last column is the background's). A group is a sample id, or a sample id and a
planned region id; never the instruction's text, which different images share. A missing reward is NaN: it leaves mean
and standard deviation and its advantage is 0. Computed in float64, returned in float32.

Source: Flow-GRPO's group statistics, for the forms `group` and `global`; the floor and the regions are this project's.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from schemas.reward import BACKGROUND
from schemas.score import SCORE_MAX
from training.reward.protocol import Predicted, Prediction

Form = Literal["floor", "group", "global"]

#: What the published code adds to a standard deviation.
_PUBLISHED_OFFSET = 1e-4
LIMIT = 5.0


def usable(scores_0_25: Tensor) -> Tensor:
    """The scores as float64, NaN where one is missing or outside 0..25. Any shape."""
    scores = scores_0_25.double()
    return torch.where((scores >= 0) & (scores <= SCORE_MAX), scores, torch.nan)


def phi(success_0_25: Tensor, preserve_0_25: Tensor) -> Tensor:
    """phi_r, 0..25, NaN where either score is missing. Any shape; the background's one score stands for both."""
    return torch.minimum(usable(success_0_25), usable(preserve_0_25))


def aesthetics(naturalness_0_25: Tensor, artifacts_0_25: Tensor) -> Tensor:
    """AES, 0..25, NaN where either score is missing. Any shape."""
    return torch.minimum(usable(naturalness_0_25), usable(artifacts_0_25))


def region_rewards(phi_0_25: Tensor, aesthetics_0_25: Tensor) -> Tensor:
    """R_r in [0, 1], NaN where either is missing. Shapes: phi (B, R), aesthetics (B,). Returns: (B, R) float32.

    AES couples all regions of an image: log phi / 25 beside it.
    """
    return ((usable(phi_0_25) * usable(aesthetics_0_25)[:, None]).sqrt() / SCORE_MAX).float()


def predicted_rewards(
    predictions: Sequence[Prediction], region_ids: Sequence[Sequence[str | None]]
) -> tuple[Tensor, Tensor]:
    """R_r and phi_r of what a reward said of B rollouts, both (B, R) float32, NaN where it said nothing.

    region_ids: B rows of R planned region ids, `background` or None (`token_masks.row_ids`).
    """
    pairs = [
        [_success_preserve(prediction, region) for region in regions]
        for prediction, regions in zip(predictions, region_ids, strict=True)
    ]
    scores = torch.tensor(pairs, dtype=torch.float64)  # (B, R, 2)
    phis = phi(scores[..., 0], scores[..., 1])
    whole = [[_score(prediction.naturalness), _score(prediction.artifacts)] for prediction in predictions]
    quality = torch.tensor(whole, dtype=torch.float64)  # (B, 2)
    return region_rewards(phis, aesthetics(quality[:, 0], quality[:, 1])), phis.float()


def area_weighted_mean(rewards: Tensor, areas: Tensor) -> Tensor:
    """One reward of the whole image: the mean of its regions' by area. Shapes: both (B, R). Returns: (B,) float32.

    areas: in tokens, 0 where a rollout has no such region. NaN where the reward of any region is missing: the mean of
    the rest would reward a rollout for a region so bad that nobody could score it.
    """
    shares = areas.double() / areas.double().sum(dim=1, keepdim=True)
    return (torch.where(areas > 0, rewards.double(), 0) * shares).sum(dim=1).float()


def sample_groups(sample_ids: Sequence[str]) -> Tensor:
    """(B,) int64: the number of each rollout's group, in order of first appearance."""
    return _numbered(list(sample_ids))


def region_groups(sample_ids: Sequence[str], region_ids: Sequence[Sequence[str | None]]) -> Tensor:
    """(B, R) int64: the group of each rollout's planned region, -1 where a rollout has none (None).

    Shapes: sample_ids (B,); region_ids B rows of R planned region ids, the background under one name of its own.
    """
    keys = [
        None if region is None else (sample, region)
        for sample, regions in zip(sample_ids, region_ids, strict=True)
        for region in regions
    ]
    return _numbered(keys).reshape(len(sample_ids), -1)


def group_advantages(rewards: Tensor, groups: Tensor, form: Form = "floor", floor: float = 0.02) -> Tensor:
    """The advantage of every reward within its group, not clipped, 0 where it is missing or has no group.

    Shapes: rewards, groups the same, any: (B,) with `sample_groups`, (B, R) with `region_groups`.
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


def mixed_advantages(region: Tensor, whole: Tensor, lam: float, limit: float = LIMIT) -> Tensor:
    """A~ = clip(lam A_region + (1 - lam) A_global, -limit, limit). Shapes: region (B, R), whole (B,) -> (B, R)."""
    return (lam * region + (1 - lam) * whole[:, None]).clamp(-limit, limit)


def zero_std_ratio(rewards: Tensor, groups: Tensor) -> float:
    """The share of groups that teach nothing: rewards all equal, or all missing. Shapes as `group_advantages`."""
    values, numbers = rewards.double().flatten(), groups.flatten().to(rewards.device)
    exists = numbers >= 0
    if not bool(exists.any()):
        return 0.0
    present = ~torch.isnan(values) & exists
    numbers = numbers.clamp(min=0)
    _, stds = _moments(_above_least(values, numbers, present), numbers, present)
    met = torch.bincount(numbers[exists]) > 0
    return float((stds[: len(met)][met] == 0).double().mean())


def _success_preserve(prediction: Prediction, region: str | None) -> tuple[float, float]:
    """The two scores of a region, NaN where there is none; the background's one score stands for both."""
    if region == BACKGROUND:
        return _score(prediction.background), _score(prediction.background)
    if region is None or (found := prediction.regions.get(region)) is None:
        return math.nan, math.nan
    return _score(found.success), _score(found.preserve)


def _score(predicted: Predicted) -> float:
    return math.nan if predicted.mean is None else predicted.mean


def _numbered(keys: Sequence[object | None]) -> Tensor:
    """The number of each key in order of first appearance, -1 for None."""
    known: dict[object, int] = {}
    return torch.tensor([-1 if key is None else known.setdefault(key, len(known)) for key in keys], dtype=torch.int64)


def _above_least(values: Tensor, numbers: Tensor, present: Tensor) -> Tensor:
    """How far each value lies above the least of its group, 0 where it is missing.

    So a shift of all rewards changes no bit of what follows, and equal rewards are exactly 0.
    """
    least = torch.full((int(numbers.max()) + 1,), torch.inf, dtype=torch.float64, device=values.device)
    least = least.scatter_reduce(0, numbers, torch.where(present, values, torch.inf), "amin")
    return torch.where(present, values - least[numbers], 0)


def _moments(values: Tensor, numbers: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (ddof 0) of every group's present values; 0 where nothing is."""
    zeros, kept = torch.zeros(int(numbers.max()) + 1, dtype=torch.float64, device=values.device), present.double()
    counts = zeros.index_add(0, numbers, kept).clamp(min=1)
    means = zeros.index_add(0, numbers, kept * values) / counts
    variances = zeros.index_add(0, numbers, kept * (values - means[numbers]).square()) / counts
    return means, variances.sqrt()
