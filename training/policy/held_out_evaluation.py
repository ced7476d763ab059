"""Evaluates a policy on held-out requests: ODE samples from fixed noise, scored as rollouts are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from runtime.bootstrap import estimate, resamples, weighted_means
from runtime.images import ImageU8
from schemas.edit_benchmarks import Interval, PairedFigure, PolicyEvaluation
from schemas.score import SCORE_MAX
from training.evaluation.multi_edit import BOOTSTRAP_SAMPLES, RIGHT_FROM, Compared
from training.policy.edit_cases import PolicyCase
from training.policy.protocol import Policy
from training.policy.rewards import CaseReward, RegionRewards, RewardQueue, cropped
from training.policy.sampling import noise_of, sample_ode
from training.policy.token_masks import TokenGrid

#: The seed and update number of the noise that all evaluations share, whatever the training's.
TEST_SEED, TEST_UPDATE = 20_261, -1


@dataclass(frozen=True)
class CaseResult:
    """One held-out request. rewards: R_r of each region, in [0, 1]; phis: phi_r / 25; background: its score / 25.

    None where a score is missing.
    """

    request: str
    rewards: tuple[float | None, ...]
    phis: tuple[float | None, ...]
    background: float | None

    @property
    def all_right(self) -> bool | None:
        """Whether every region is right (`RIGHT_FROM`); None where one is not known."""
        known = [phi for phi in self.phis if phi is not None]
        return all(phi * SCORE_MAX >= RIGHT_FROM for phi in known) if len(known) == len(self.phis) else None


def by_grid(policy: Policy, cases: Sequence[PolicyCase]) -> dict[TokenGrid, list[int]]:
    """The places in `cases` of those that share a token grid, grids in order of first appearance."""
    places: dict[TokenGrid, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        height, width = case.source.shape[:2]
        places[policy.token_grid(width, height)].append(place)
    return dict(places)


def edited(policy: Policy, cases: Sequence[PolicyCase], steps: int, batch: int) -> list[ImageU8]:
    """One ODE sample of each case, from the fixed evaluation noise; in the size of its grid's crop."""
    images: dict[int, ImageU8] = {}
    for grid, places in by_grid(policy, cases).items():
        for first in range(0, len(places), batch):
            chosen = places[first : first + batch]
            seen = policy.encode([cases[place] for place in chosen])
            streams = [noise_of(TEST_SEED, TEST_UPDATE, cases[place].id, 0) for place in chosen]
            shown = policy.decode(sample_ode(policy, seen, streams, steps), grid)
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
    """The rewards of one edit of each case. Raises: as the reward does, for bad input."""
    asked = [cropped(case, policy.token_grid(case.source.shape[1], case.source.shape[0])) for case in cases]
    queue = RewardQueue(reward, threads=1, timeout_s=timeout_s)
    try:
        for first in range(0, len(asked), batch):
            queue.submit(asked[first : first + batch], list(images[first : first + batch]))
        rewards = queue.collect()
    finally:
        queue.close()
    return [result_of(case, given) for case, given in zip(asked, rewards, strict=True)]


def result_of(case: PolicyCase, given: RegionRewards) -> CaseResult:
    """One request's scores as its result."""
    return CaseResult(
        request=case.id,
        rewards=tuple(_known(given.reward(key)) for key in case.masks),
        phis=tuple(_known(given.phi[key] / SCORE_MAX) for key in case.masks),
        background=_known(given.background / SCORE_MAX),
    )


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def column(results: Sequence[CaseResult], what: Compared) -> NDArray[np.float64]:
    """One metric of each request, (n,), NaN where missing: the mean over its regions, or the background's."""
    return np.array([_figure(result, what) for result in results], dtype=np.float64)


def _figure(result: CaseResult, what: Compared) -> float:
    values: Sequence[float | None] = (result.background,)
    if what == "region_reward":
        values = result.rewards
    elif what == "region_phi":
        values = result.phis
    elif what == "region_right":
        values = [None if phi is None else float(phi * SCORE_MAX >= RIGHT_FROM) for phi in result.phis]
    elif what == "all_right":
        values = (None if result.all_right is None else float(result.all_right),)
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else nan


def summary(results: Sequence[CaseResult]) -> dict[str, float]:
    """Means over the requests that have the figure; `coverage`: the share of them that has every reward."""
    columns = {what: column(results, what) for what in get_args(Compared)}
    means = {what: float(np.nanmean(values)) for what, values in columns.items() if not np.isnan(values).all()}
    return means | {"coverage": float((~np.isnan(columns["region_reward"])).mean())}


def progress(
    start: Sequence[CaseResult],
    end: Sequence[CaseResult],
    *,
    names: tuple[str, str],
    split: str,
    scorer: str,
    synthetic: bool,
) -> PolicyEvaluation:
    """The figures of the start and the end of a training on the same requests, with paired bootstrap intervals.

    A request's figure is the mean over its regions; requests are drawn anew, for each has a source of its own.
    """
    weights = resamples(len(start), BOOTSTRAP_SAMPLES, 0)
    figures = []
    for what in get_args(Compared):
        first, second = column(start, what), column(end, what)
        both = ~(np.isnan(first) | np.isnan(second))
        kept = weights[:, both]
        means = [weighted_means(values[both], kept) for values in (first, second, second - first)]
        intervals = [Interval(**asdict(estimate(values))) for values in means]
        numbers = dict(zip(("first", "second", "difference"), intervals, strict=True))
        figures.append(PairedFigure(what=what, **numbers, n=int(both.sum())))
    return PolicyEvaluation(
        first=names[0],
        second=names[1],
        benchmark=f"the {split} split",
        scorer=scorer,
        synthetic=synthetic,
        right_from=RIGHT_FROM,
        figures=tuple(figures),
        n_requests=len(start),
        bootstrap_samples=BOOTSTRAP_SAMPLES,
    )
