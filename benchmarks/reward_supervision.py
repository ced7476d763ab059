"""Region training against whole-image training of the same network, on edits of several regions.

Region training sees every region's own scores, whole-image training gives every region the scores of its image. Both
see the same rows in the same order; they are tested on held-out scenes whose requests have two targets or more, each
candidate with one known defect. Several seeds, which set weights and order.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, get_args

from benchmarks.result import once, row
from pipeline.prepare import config_of
from pipeline.requests.scenes import TEXTURES
from pipeline.run.folder import read_build_info
from runtime.bootstrap import resamples
from training.evaluation.localisation import first_rows, lownesses, source_index
from training.evaluation.localisation_cases import HELD_OUT_SEED, HELD_OUT_TEXTURES, DefectCase, scene_cases
from training.evaluation.ranking_calibration import ranking
from training.evaluation.reward_metrics import BOOTSTRAP_SAMPLES
from training.predictions import ask
from training.reward.config import RewardConfig, Supervision
from training.reward.train import train_reward
from training.reward_protocol import Prediction, Reward
from training.reward_registry import make_reward

log = logging.getLogger(__name__)
ARMS: tuple[Supervision, ...] = get_args(Supervision)
ORDER, REGION, PLACE = "order", "region", "place"
#: What is measured, in words.
WHAT = {
    ORDER: "two candidates of a request put in their true order",
    REGION: "the flawed region has the lowest score of the edit's regions",
    PLACE: "the flawed place has the lowest score, background included",
}


@dataclass(frozen=True)
class Share:
    """How often a reward is right. low, high: 95 % interval over sources; chance: of a reward that guesses."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    chance: float | None


Figures = dict[str, Share]


def multi_region_cases(sources: int, cases_a_source: int, seed: int = HELD_OUT_SEED) -> list[DefectCase]:
    """Test cases on held-out scenes with two targets or more."""
    cases, _ = scene_cases(sources, cases_a_source, seed=seed)
    return [case for case in cases if len(case.request.targets) >= 2]


def textures_seen(run: Path) -> list[str]:
    """Which textures of the test scenes the run's own scenes have, too; none where it was built without them."""
    return sorted(set(config_of(read_build_info(run), run).scene_textures or TEXTURES) & set(HELD_OUT_TEXTURES))


def shares_of(reward: Reward, cases: Sequence[DefectCase], samples: int = BOOTSTRAP_SAMPLES) -> Figures:
    """The three shares of `WHAT`. Ties are wrong in an order, and shared where a place is named."""
    sources = source_index(cases)
    weights = resamples(int(sources.max()) + 1, samples, 0)
    flawed = ask(reward, [case.query for case in cases])
    twins = ask(reward, [case.twin for case in cases])
    order, n_pairs = ranking(cases, flawed, twins, sources, weights)
    in_region = [place for place, case in enumerate(cases) if case.defect.target is not None]
    found = {ORDER: Share(order.value, order.low, order.high, n_pairs, 0.5)}
    for name, chosen, values in (
        (REGION, in_region, [of_regions(cases[place], flawed[place]) for place in in_region]),
        (PLACE, range(len(cases)), [lownesses(case, now) for case, now in zip(cases, flawed, strict=True)]),
    ):
        named = first_rows("", [cases[n] for n in chosen], values, sources[list(chosen)], weights)[0]
        found[name] = Share(named.share_right, named.low, named.high, named.n, named.chance)
    return found


def of_regions(case: DefectCase, flawed: Prediction) -> Mapping[str, float | None]:
    """`lownesses` of the regions alone."""
    labels = case.labels
    return {key: value for key, value in lownesses(case, flawed).items() if key in labels}


def compare(
    config: RewardConfig, work: Path, seeds: Sequence[int], sources: int, cases_a_source: int
) -> dict[str, list[Figures]]:
    """arm -> figures by seed; what is trained and tested already is taken from `work`."""
    cases: list[DefectCase] = []
    found: dict[str, list[Figures]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm in ARMS:
            log.info("%s, seed %d", arm, seed)
            folder = work / f"{arm}-{seed}"
            trained = train_reward(config.model_copy(update={"seed": seed, "supervision": arm}), folder)

            def measure(folder: Path = folder) -> dict[str, Any]:
                if not cases:
                    cases.extend(multi_region_cases(sources, cases_a_source))
                return {name: vars(share) for name, share in shares_of(make_reward(f"region:{folder}"), cases).items()}

            made_of = {"revision": trained["revision"], "sources": sources, "cases_a_source": cases_a_source}
            shares = once(folder / "tested.json", made_of, measure)
            found[arm].append({name: Share(**share) for name, share in shares.items()})
    return found


def supervision_rows(found: Mapping[str, Sequence[Figures]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """For each measure the mean over seeds with its spread, the gap, and every seed by itself."""
    rows = []
    for name, what in WHAT.items():
        ours, theirs = ([figures[name] for figures in found[arm]] for arm in ARMS)
        rows += _means(what, ours, theirs)
        for seed, own, peer in zip(seeds, ours, theirs, strict=True):
            figures = row(f"{what}, seed {seed}", "share right", own.value, peer.value, "whole-image training", limit=1)
            more = {"peer_low": peer.low, "peer_high": peer.high, "chance": own.chance}
            rows.append(figures | {"n": own.n, "low": own.low, "high": own.high, "peer_n": peer.n} | more)
    return rows


def _means(what: str, ours: Sequence[Share], theirs: Sequence[Share]) -> list[dict[str, Any]]:
    pairs = [(a.value, b.value) for a, b in zip(ours, theirs, strict=True) if a.value is not None]
    both = [(own, peer) for own, peer in pairs if peer is not None]
    own, peer, gap = ([*values] for values in ([a for a, _ in both], [b for _, b in both], [a - b for a, b in both]))
    counts = {"seeds": len(both), "n": ours[0].n if ours else 0}
    chance = {"chance": ours[0].chance if ours else None}
    figures = row(f"{what}: mean over seeds", "share right", _mean(own), _mean(peer), "whole-image training", limit=1)
    difference = row(f"{what}: gap, mean over seeds", "share right", _mean(gap))
    spreads = {"spread": _spread(own), "peer_spread": _spread(peer)}
    return [figures | counts | chance | spreads, difference | counts | _range(gap)]


def _range(gap: Sequence[float]) -> dict[str, float | None]:
    return {"spread": _spread(gap), "least": min(gap, default=None), "most": max(gap, default=None)}


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
