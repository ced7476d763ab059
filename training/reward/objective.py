"""The loss of a reward's training: regression, its variance, ranking within requests, and readings of the text.

The readings are auxiliary losses: what the instruction asks of a region and by which words it names it (where the
request says so), what the source shows there, and how a region looks that carries the instruction out (learnt where
scores are full).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.reward.batches import RewardBatch
from training.reward.losses import bradley_terry, filled, gaussian_nll, masked_mean, share_loss, uncertain_ranking
from training.reward.network_io import ASKED, SHOWN, NetworkOutputs

#: A region whose lowest score is at least this share of the full one shows what was asked.
_CARRIED_OUT = 0.97


class LossWeights(NamedTuple):
    """How much each part counts beside the regression of region scores."""

    image: float = 0.5
    variance: float = 0.1
    ranking: float = 0.2
    contrast: float = 0.3
    asked: float = 0.3
    expected: float = 0.5


class Parts(NamedTuple):
    """The parts of the loss, each a scalar; `total` is their weighted sum."""

    total: Tensor
    region: Tensor
    image: Tensor
    variance: Tensor
    ranking: Tensor
    contrast: Tensor
    asked: Tensor
    expected: Tensor


class Pairs(NamedTuple):
    """Ordered pairs of one group: indices of the better and of the worse one, (N,) each."""

    better: Tensor
    worse: Tensor


def ordered_pairs(scores: Tensor, groups: Tensor, margin: float) -> Pairs:
    """All pairs of the same group whose scores differ by `margin` or more. scores, groups: (N,); group -1: none."""
    same = (groups[:, None] == groups[None]) & (groups >= 0)[:, None]
    apart = (scores[:, None] - scores[None]) >= margin  # False where a score is NaN
    better, worse = torch.nonzero(same & apart, as_tuple=True)
    return Pairs(better, worse)


def objective(
    outputs: NetworkOutputs, batch: RewardBatch, weights: LossWeights, noise: torch.Generator, rank_scale: float
) -> Parts:
    """All parts of the loss on one batch. noise: draws the samples of the ranking; rank_scale: shares to logits."""
    regions, images = ~torch.isnan(batch.region_scores), ~torch.isnan(batch.image_scores)
    region = share_loss(outputs.region_logit, batch.region_scores, regions)
    image = share_loss(outputs.image_logit, batch.image_scores, images)
    means = torch.sigmoid(outputs.region_logit), torch.sigmoid(outputs.image_logit)
    variance = gaussian_nll(means[0].detach(), outputs.region_log_variance, batch.region_scores, regions)
    variance = variance + gaussian_nll(means[1].detach(), outputs.image_log_variance, batch.image_scores, images)
    region_parts = means[0], outputs.region_log_variance, batch.region_scores, batch.region_group
    image_parts = means[1], outputs.image_log_variance, batch.image_scores, batch.image_group
    ranking = _ranking(region_parts, noise, rank_scale) + _ranking(image_parts, noise, rank_scale)
    contrast = _contrast(outputs.region_logit, batch.region_scores) + _contrast(outputs.image_logit, batch.image_scores)
    asked = torch.stack(
        [_reading(outputs.asked[name], batch.asked[..., i]) for i, name in enumerate(ASKED)]
        + [_reading(outputs.done[name], batch.done[..., i]) for i, name in enumerate(ASKED)]
        + [_reading(outputs.shown[name], batch.shown[..., i]) for i, name in enumerate(SHOWN)]
        + [_pointing(outputs.pointing, batch.named)]
    ).sum()
    carried_out = filled(batch.region_scores, regions).amin(dim=-1) >= _CARRIED_OUT
    gaps = functional.smooth_l1_loss(outputs.expected, outputs.observed, beta=0.25, reduction="none").mean(dim=-1)
    expected = masked_mean(gaps, carried_out)
    total = region + weights.image * image + weights.variance * variance + weights.ranking * ranking
    total = total + weights.contrast * contrast + weights.asked * asked + weights.expected * expected
    return Parts(total, region, image, variance, ranking, contrast, asked, expected)


def _contrast(logits: Tensor, scores: Tensor) -> Tensor:
    """Bradley-Terry of every score over the whole batch: what is sound stands above what is flawed, however weakly.

    The regression alone cares little for a flaw that costs three points; whether there is one is what it is asked.
    """
    losses = []
    for logit, score in zip(logits.flatten(0, -2).unbind(-1), scores.flatten(0, -2).unbind(-1), strict=True):
        everywhere = torch.zeros(len(score), dtype=torch.int64)
        better, worse = ordered_pairs(score, everywhere, margin=0.04)
        losses.append(bradley_terry(logit[better], logit[worse], torch.ones_like(better, dtype=torch.bool)))
    return torch.stack(losses).mean()


def _ranking(parts: tuple[Tensor, Tensor, Tensor, Tensor], noise: torch.Generator, scale: float) -> Tensor:
    """Uncertainty-aware ranking of every score within its group.

    parts: means, log-variances and scores, each (..., scores), and groups (...).
    """
    means, log_variances, scores = (part.flatten(0, -2) for part in parts[:3])
    groups, losses = parts[3].flatten(), []
    for column in range(scores.shape[1]):
        better, worse = ordered_pairs(scores[:, column], groups, margin=0.04)
        mean, variance = means[:, column], log_variances[:, column].exp()
        gap = scale * (mean[better] - mean[worse])
        spread = scale**2 * (variance[better] + variance[worse])
        draws = torch.randn(8, len(better), generator=noise)
        losses.append(uncertain_ranking(gap, spread, draws, torch.ones_like(gap, dtype=torch.bool)))
    return torch.stack(losses).mean()


def _reading(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of one reading where the request tells it; 0 where it tells none. logits (B, R, n)."""
    known = classes >= 0
    losses = functional.cross_entropy(logits.flatten(0, 1), classes.clamp(min=0).flatten(), reduction="none")
    return masked_mean(losses, known.flatten())


def _pointing(pointing: Tensor, named: Tensor) -> Tensor:
    """-log of the attention that lies on a region's own name, where the instruction holds it. Both (B, R, T)."""
    mass = (pointing * named).sum(dim=-1).clamp(min=1e-6)
    return masked_mean(-torch.log(mass), named.any(dim=-1))
