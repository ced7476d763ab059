"""Tests a policy on held-out requests: the ODE's samples from fixed noise, scored as rollouts are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from pipeline.images import ImageU8
from schemas.score import SCORE_MAX
from training.policy.cases import PolicyCase
from training.policy.protocol import Policy
from training.policy.rewards import CaseReward, RegionRewards, RewardQueue, cropped
from training.policy.rollout import noise_of, sample_ode
from training.policy.token_masks import Frame

#: The seed and update whose noise all tests share, whatever the training's.
TEST_SEED, TEST_UPDATE = 20_261, -1
#: A region is right from this phi on: level 3 of a person's 0..4, "mostly".
RIGHT_FROM = 18


@dataclass(frozen=True)
class CaseResult:
    """One held-out request. reward, phi: means over its regions of R_r and of phi_r / 25, in [0, 1].

    all_right: whether every region has phi >= 18; background: its score / 25. None where a score is missing.
    """

    request: str
    regions: int
    reward: float | None
    phi: float | None
    all_right: bool | None
    background: float | None


def by_frame(policy: Policy, cases: Sequence[PolicyCase]) -> dict[Frame, list[int]]:
    """The places in `cases` of those that share a frame, frames in order of first appearance."""
    places: dict[Frame, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        height, width = case.source.shape[:2]
        places[policy.frame(width, height)].append(place)
    return dict(places)


def edited(policy: Policy, cases: Sequence[PolicyCase], steps: int, batch: int) -> list[ImageU8]:
    """One edit of each case by the ODE, from the noise of all tests; in the size of its frame's crop."""
    images: dict[int, ImageU8] = {}
    for frame, places in by_frame(policy, cases).items():
        for first in range(0, len(places), batch):
            chosen = places[first : first + batch]
            seen = policy.encode([cases[place] for place in chosen])
            streams = [noise_of(TEST_SEED, TEST_UPDATE, cases[place].id, 0) for place in chosen]
            shown = policy.decode(sample_ode(policy, seen, streams, steps), frame)
            images |= dict(zip(chosen, shown, strict=True))
    return [images[place] for place in range(len(cases))]


def judged(
    policy: Policy,
    cases: Sequence[PolicyCase],
    images: Sequence[ImageU8],
    reward: CaseReward,
    *,
    batch: int,
    timeout_s: float,
) -> list[CaseResult]:
    """What a reward says of the edit of each case. Raises: as the reward does, for input that is at fault."""
    asked = [cropped(case, policy.frame(case.source.shape[1], case.source.shape[0])) for case in cases]
    queue = RewardQueue(reward, threads=1, timeout_s=timeout_s)
    try:
        for first in range(0, len(asked), batch):
            queue.submit(asked[first : first + batch], list(images[first : first + batch]))
        rewards = queue.collect()
    finally:
        queue.close()
    return [result_of(case, given) for case, given in zip(asked, rewards, strict=True)]


def result_of(case: PolicyCase, given: RegionRewards) -> CaseResult:
    """What is kept of one request's scores."""
    keys = list(case.masks)
    phis, rewards = [given.phi[key] for key in keys], [given.reward(key) for key in keys]
    known = all(isfinite(phi) for phi in phis)
    return CaseResult(
        request=case.id,
        regions=len(keys),
        reward=_mean(rewards),
        phi=_mean([phi / SCORE_MAX for phi in phis]),
        all_right=all(phi >= RIGHT_FROM for phi in phis) if known else None,
        background=given.background / SCORE_MAX if isfinite(given.background) else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    """The mean where every value is there, else None."""
    return float(np.mean(values)) if values and all(isfinite(value) for value in values) else None


def summary(results: Sequence[CaseResult]) -> dict[str, float]:
    """Means over the requests that have the figure; `coverage`: the share that has a reward."""
    figures: Mapping[str, list[float]] = {
        name: [float(value) for result in results if (value := getattr(result, name)) is not None]
        for name in ("reward", "phi", "all_right", "background")
    }
    means = {name: float(np.mean(values)) for name, values in figures.items() if values}
    return means | {"coverage": len(figures["reward"]) / max(1, len(results))}
