"""How much of an update's gradient is signal: methods of a policy's update on one and the same rollouts, at the start.

Each request's gradient g is taken for itself, by the very code of the training. With n requests an update the mean
gradient is mu + noise of covariance S / n, so

| figure | formula | meaning |
|---|---|---|
| `signal` | abs(mu)^2 / (abs(mu)^2 + tr S / n) | share of an update's squared length that is its own direction |
| `gain` | mu . t / sqrt(abs(mu)^2 + tr S / n) | how fast the reward rises, to first order, per unit of length |

where t is the gradient of the mean reward itself, by plain REINFORCE: the reward over the samples of its request, times
the whole image's log-prob; up to a constant it is without bias, and it costs no more samples. Products of two means are
taken over pairs of different requests, so they have no bias either. Intervals: requests drawn anew.
"""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.policy_compare import ARMS, CONFIG
from benchmarks.result import row, write_result
from runtime.bootstrap import HIGH_PERCENT, LOW_PERCENT, resamples
from runtime.checkout import CHECKOUT
from training.policy.config import PolicyConfig
from training.policy.data import load_cases
from training.policy.objective import permute_regions
from training.policy.protocol import Policy
from training.policy.registry import make_policy
from training.policy.rewards import RewardQueue, make_case_reward
from training.policy.rollouts import Rollout, advantages_of, batch_of, region_table, roll_out_requests
from training.policy.update import accumulate

Floats = NDArray[np.float64]

FIRST = "Flow-GRPO"
#: Settings of the spatial method beside those of `make compare`.
SWEEP: dict[str, dict[str, Any]] = {
    "lam 0": {"lam": 0.0},
    "lam 1": {"lam": 1.0},
    "gamma 0": {"gamma": 0.0},
    "gamma 1": {"gamma": 1.0},
    "lam 1, gamma 0": {"lam": 1.0, "gamma": 0.0},
}
REWARDS = ("regions", "background")
SAMPLES = 1000


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes the result. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_gradient", description=__doc__)
    parser.add_argument("--dataset", type=Path, default=CHECKOUT / "runs" / "policy" / "dataset")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--requests", type=int, default=128)
    given = parser.parse_args(arguments)
    settings = tomllib.loads(given.config.read_text()) | {"dataset": str(given.dataset)}
    base = PolicyConfig.model_validate(settings | {"beta_edit": 0.0, "beta_background": 0.0})
    torch.set_num_threads(base.threads)
    arms = {
        name: base.model_copy(update={"method": method, "control": control}) for name, (method, control) in ARMS.items()
    } | {name: base.model_copy(update=changes) for name, changes in SWEEP.items()}
    gradients, targets = measured(base, arms, given.requests)
    rows, table = [], {}
    grams = {name: g @ g.T for name, g in gradients.items()}
    for what, target in targets.items():
        crossed = {name: gradients[name] @ target.T for name in arms}
        figures = {name: drawn_figures(grams[name], crossed[name], base.requests) for name in arms}
        for name in arms:
            signal, gain = figures[name]
            ratio = gain / figures[FIRST][1]
            table[f"{what}, {name}"] = {
                "signal": interval(signal), "gain": interval(gain), f"gain over {FIRST}": interval(ratio),
            }  # fmt: skip
            low, high = interval(ratio)[1:]
            told = f"first-order gain of {what}, {name}; ratio [{low:.2f}, {high:.2f}]"
            rows.append(row(told, "reward per unit", float(gain[0]), float(figures[FIRST][1][0]), FIRST))
    shown = {name: interval(drawn_figures(grams[name], grams[name], base.requests)[0]) for name in arms}
    rows += [
        row(f"signal in an update, {name}", "share", found[0], shown[FIRST][0], FIRST) for name, found in shown.items()
    ]
    write_result(
        "policy-gradient", rows, figures=table, requests=given.requests, group=base.group,
        requests_an_update=base.requests, config=settings | {"dataset": given.dataset.name}, synthetic=True,
    )  # fmt: skip
    return 0


def measured(
    base: PolicyConfig, arms: dict[str, PolicyConfig], requests: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """(arm -> gradients of ascent (requests, parameters), reward -> the same of its mean), from the same rollouts."""
    cases = load_cases(Path(base.dataset), "train")[0].of_regions(base.min_regions)[:requests]
    columns = cases.most_regions + 1
    policy = make_policy(
        base.policy, rank=base.lora_rank, alpha=base.lora_alpha, guidance=base.guidance, seed=base.seed
    )
    reward = make_case_reward(base.reward)
    gradients: dict[str, list[Tensor]] = {name: [] for name in arms}
    targets: dict[str, list[Tensor]] = {name: [] for name in REWARDS}
    for first in range(0, len(cases), base.requests):
        chosen = list(cases[first : first + base.requests])
        queue = RewardQueue(reward, threads=1, timeout_s=base.reward_timeout_s)
        rollouts = roll_out_requests(policy, chosen, list(range(len(chosen))), base, 0, queue)
        given, tables, number = queue.collect(), [], 0
        queue.close()
        for rollout in rollouts:
            tables.append(region_table(rollout, given[number : number + len(rollout.cases)], columns))
            number += len(rollout.cases)
        rewards, areas, phis = (torch.cat(table) for table in zip(*tables, strict=True))
        places = torch.tensor([place for rollout in rollouts for place in rollout.places])
        for name, config in arms.items():
            advantages = advantages_of(rewards, areas, phis, places, config, first).advantages
            gradients[name] += by_request(policy, [seen_by(r, config) for r in rollouts], advantages, columns, config)
        plain = base.model_copy(update={"method": "global", "scaled_clip": False})
        for name, values in (("regions", rewards[:, :-1].nanmean(dim=1)), ("background", rewards[:, -1])):
            targets[name] += by_request(policy, rollouts, above_mean(values, places), columns, plain)
        print(f"{min(first + base.requests, len(cases))} of {len(cases)} requests", file=sys.stderr)
    return tuple({n: torch.stack(g).double().numpy() for n, g in found.items()} for found in (gradients, targets))  # type: ignore[return-value]


def seen_by(rollout: Rollout, config: PolicyConfig) -> Rollout:
    """The rollout with its masks as an arm's loss sees them: the samples hang on no control."""
    if config.control != "permuted-masks":
        return rollout
    rolled = [permute_regions(m, case.id, config.seed) for m, case in zip(rollout.masks, rollout.cases, strict=True)]
    return replace(rollout, masks=rolled)


def above_mean(values: Tensor, places: Tensor) -> Tensor:
    """Each sample's reward less the mean of its request's other samples, (B,); 0 where it is missing."""
    advantages = torch.zeros_like(values)
    for place in sorted(set(places.tolist())):
        own = (places == place) & ~values.isnan()
        if (count := int(own.sum())) > 1:
            advantages[own] = (values[own] - values[own].mean()) * count / (count - 1)
    return advantages


def by_request(
    policy: Policy, rollouts: Sequence[Rollout], advantages: Tensor, columns: int, config: PolicyConfig
) -> list[Tensor]:
    """The direction of ascent of each request, in order of place."""
    found: dict[int, Tensor] = {}
    parameters, number = list(policy.trained().values()), 0
    for rollout in rollouts:
        batch = batch_of(rollout, advantages[number : number + len(rollout.cases)], columns)
        number += len(rollout.cases)
        for place in dict.fromkeys(rollout.places):
            rows = torch.tensor([i for i, p in enumerate(rollout.places) if p == place])
            for parameter in parameters:
                parameter.grad = None
            accumulate(policy, batch.take(rows), config, len(rows) / config.group)
            parts = [torch.zeros_like(p).flatten() if p.grad is None else -p.grad.flatten() for p in parameters]
            found[place] = found.get(place, 0) + torch.cat(parts)
    return [found[place] for place in sorted(found)]


def drawn_figures(gram: Floats, crossed: Floats, n: int) -> tuple[Floats, Floats]:
    """(signal, gain) of an update of n requests, each (1 + SAMPLES,): as measured, then with requests drawn anew.

    gram: products of an arm's gradients with each other, crossed: with the target's, both (requests, requests).
    """
    count = len(gram)
    weights = resamples(count, SAMPLES, 0)
    squares = weights @ np.diag(gram) / count
    own, towards = (pairs(products, weights) for products in (gram, crossed))
    length = own + (squares - own) / n
    return own / length, towards / np.sqrt(length)


def pairs(products: Floats, weights: Floats) -> Floats:
    """The mean product over pairs of different requests, for each row of weights (S, requests); NaN without a pair."""
    between = np.array(products)
    np.fill_diagonal(between, 0.0)
    outer = np.einsum("sn,nm,sm->s", weights, between, weights, optimize=True)
    counts = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return np.where(counts > 0, outer / np.where(counts > 0, counts, 1), np.nan)


def interval(values: Floats) -> list[float]:
    """(what was measured, its 95 % interval)."""
    return [float(values[0]), *(float(p) for p in np.nanpercentile(values[1:], [LOW_PERCENT, HIGH_PERCENT]))]


if __name__ == "__main__":
    sys.exit(main())
