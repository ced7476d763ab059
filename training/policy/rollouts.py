"""What an update learns from: samples of its requests with their rewards, and the advantages that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runtime.images import ImageU8
from schemas.record import short_hash
from schemas.region import region_id
from schemas.reward import BACKGROUND
from schemas.score import SCORE_MAX
from training.pictures.sheet_rows import SheetRegion, SheetRow, SheetSample
from training.policy.advantages import (
    LIMIT,
    area_weighted_mean,
    group_advantages,
    mixed_advantages,
    zero_std_ratio,
)
from training.policy.config import PolicyConfig
from training.policy.edit_cases import PolicyCase
from training.policy.held_out_evaluation import by_grid
from training.policy.objective import permute_advantages, permute_regions
from training.policy.protocol import Conditioning, Policy, joined
from training.policy.rewards import RegionRewards, RewardQueue, cropped
from training.policy.sampling import Samples, Sampling, noise_of, roll_out
from training.policy.token_masks import RegionBatch, TokenMasks, batched, token_masks
from training.policy.update import PolicyBatch


@dataclass(frozen=True)
class Rollout:
    """The samples of some requests, all of one grid. place: of each sample's request among the update's.

    masks: of each sample's request, as the loss shall see them (rolled in a control arm); dropped: regions without a
    token, by request.
    """

    cases: list[PolicyCase]
    places: list[int]
    conditioning: Conditioning
    samples: Samples
    images: list[ImageU8]
    masks: list[TokenMasks]
    dropped: int


def roll_out_requests(
    policy: Policy, cases: list[PolicyCase], places: list[int], config: PolicyConfig, update: int, queue: RewardQueue
) -> list[Rollout]:
    """`group` samples of each request; their rewards are asked for as they come, and answered while it samples."""
    sampling = Sampling(config.sampling_steps, config.trained_steps, config.noise)
    dtype = getattr(torch, config.dtype)
    rollouts = []
    for grid, own in by_grid(policy, cases).items():
        masks = {i: token_masks(cases[i].masks, grid) for i in own}
        if config.control == "permuted-masks":
            masks = {i: permute_regions(m, cases[i].id, config.seed) for i, m in masks.items()}
        shown = {i: cropped(cases[i], grid) for i in own}
        few = range(0, len(own), config.sample_batch)  # as many at once as fit when they are sampled
        seen = joined([policy.encode([cases[i] for i in own[k : k + config.sample_batch]]) for k in few])
        rows = [(row, number) for row in range(len(own)) for number in range(config.group)]
        for first in range(0, len(rows), config.sample_batch):
            chosen = rows[first : first + config.sample_batch]
            taken = seen.take(torch.tensor([row for row, _ in chosen]))
            streams = [
                noise_of(config.seed, update, cases[own[row]].id, places[own[row]] * config.group + number)
                for row, number in chosen
            ]
            samples = roll_out(policy, taken, streams, sampling, dtype)
            images = policy.decode(samples.latents, grid)
            queue.submit([shown[own[row]] for row, _ in chosen], images)
            rollouts.append(
                Rollout(
                    cases=[cases[own[row]] for row, _ in chosen],
                    places=[places[own[row]] for row, _ in chosen],
                    conditioning=taken,
                    samples=samples,
                    images=images,
                    masks=[masks[own[row]] for row, _ in chosen],
                    dropped=sum(len(masks[own[row]].dropped) for row, number in chosen if number == 0),
                )
            )
    return rollouts


def region_table(rollout: Rollout, given: Sequence[RegionRewards], columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """(R_r (B, columns), tokens of each (B, columns), phi (B, columns)); the background last, NaN where nothing is."""
    rewards, areas, phis = (torch.full((len(given), columns), v) for v in (torch.nan, 0.0, torch.nan))
    for row, (masks, one) in enumerate(zip(rollout.masks, given, strict=True)):
        for column, key in enumerate(masks.keys):
            rewards[row, column], phis[row, column] = one.reward(key), one.phi[key]
        rewards[row, -1], phis[row, -1] = one.reward(None), one.background
        areas[row, : len(masks.keys)] = masks.masks[:-1].sum(dim=1)
        areas[row, -1] = masks.masks[-1].sum()
    return rewards, areas, phis


@dataclass(frozen=True)
class UpdateAdvantages:
    """The advantages of all samples of an update, on all processes, and what their rewards say."""

    advantages: Tensor
    figures: dict[str, float]


def advantages_of(
    rewards: Tensor, areas: Tensor, phis: Tensor, places: Tensor, config: PolicyConfig, update: int
) -> UpdateAdvantages:
    """A~ (B, R) for the spatial method, A (B,) for the global one. places: (B,), each sample's request; -1: none."""
    there = (areas > 0) & (places >= 0)[:, None]
    own = torch.where(there, rewards, torch.nan)
    columns = torch.arange(rewards.shape[1])
    region_groups = torch.where(there, places[:, None] * rewards.shape[1] + columns, -1)
    whole = area_weighted_mean(rewards, areas)
    form, floor = config.advantages, config.floor
    of_image = group_advantages(whole, places, form, floor)
    of_regions = group_advantages(own, region_groups, form, floor)
    edits = own[:, :-1]
    figures = {
        "reward/region": _mean(edits),
        "reward/background": _mean(own[:, -1]),
        "reward/image": _mean(torch.where(places >= 0, whole, torch.nan)),
        "phi/region": _mean(torch.where(there, phis, torch.nan)[:, :-1]) / SCORE_MAX,
        "phi/background": _mean(torch.where(there, phis, torch.nan)[:, -1]) / SCORE_MAX,
        "zero_std_ratio/regions": zero_std_ratio(own[:, :-1], region_groups[:, :-1]),
        "zero_std_ratio/image": zero_std_ratio(whole, places),
        "missing_share": float(torch.isnan(rewards[there]).double().mean()),
    }
    if config.method == "global":
        return UpdateAdvantages(of_image.clamp(-LIMIT, LIMIT), figures)
    if config.control == "permuted-advantages":
        drawn = torch.Generator().manual_seed(int(short_hash("permuted", config.seed, update), 16) >> 1)
        order = places.argsort(stable=True)  # the requests' own, whatever process sampled them
        of_regions[order] = permute_advantages(of_regions[order], places[order].clamp(min=0), there[order], drawn)
    return UpdateAdvantages(mixed_advantages(of_regions, of_image, config.lam), figures)


def _mean(values: Tensor) -> float:
    """The mean of what is there; 0 where nothing is."""
    return float(values.nanmean().nan_to_num())


def batch_of(rollout: Rollout, advantages: Tensor, columns: int) -> PolicyBatch:
    """A rollout as something to learn from. advantages: (B, columns) or (B,), as `advantages_of` gives them."""
    regions = batched(rollout.masks)
    missing = columns - regions.masks.shape[1]
    if missing:
        edits, background = regions.masks[:, :-1], regions.masks[:, -1:]
        empty = torch.zeros(len(edits), missing, edits.shape[2])
        regions = RegionBatch(torch.cat([edits, empty, background], dim=1), regions.tokens)
    device = rollout.conditioning.source.device
    return PolicyBatch(rollout.conditioning, rollout.samples, regions.to(device), advantages.to(device))


def sheet_rows(
    rollouts: Sequence[Rollout], given: Sequence[RegionRewards], advantages: Tensor, most: int
) -> list[SheetRow]:
    """The first `most` requests of an update with all their samples here, as a sheet shows them.

    advantages: (B, R) or (B,); of the whole image they stand for each of its places.
    """
    rows: dict[int, SheetRow] = {}
    sample = 0
    for rollout in rollouts:
        for number, case in enumerate(rollout.cases):
            place, scores, own = rollout.places[number], given[sample], advantages[sample]
            sample += 1
            if place not in rows and len(rows) == most:
                continue
            framed = cropped(case, rollout.conditioning.grid)
            keys = (*rollout.masks[number].keys, BACKGROUND)
            columns = [*range(len(keys) - 1), -1]
            values = [float(own) if own.ndim == 0 else float(own[column]) for column in columns]
            shown = SheetSample(
                image=rollout.images[number],
                advantages=dict(zip(keys, values, strict=True)),
                phi={**scores.phi, BACKGROUND: scores.background},
                rewards={key: scores.reward(None if key == BACKGROUND else key) for key in keys},
            )
            if place not in rows:
                rows[place] = SheetRow(case.request.instruction, framed.source, _sheet_regions(framed), ())
            rows[place] = replace(rows[place], samples=(*rows[place].samples, shown))
    return list(rows.values())


def _sheet_regions(case: PolicyCase) -> tuple[SheetRegion, ...]:
    labels = {region_id(case.id, index): target.label for index, target in enumerate(case.request.targets)}
    return tuple(SheetRegion(key, labels.get(key, key), mask) for key, mask in case.masks.items())
