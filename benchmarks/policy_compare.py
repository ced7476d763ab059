"""Do regions help? Flow-GRPO, SpatialFlow-GRPO and its two control arms on the tiny policy: `make compare`.

All arms have the same start, requests in the same order, noise, number of rollouts and of reward calls; they differ in
the loss alone (`ARMS`). Each training is a process of its own and goes on where it was stopped. They are tested on
held-out requests for several regions by the pixel oracle, on the ODE's samples from one noise.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import row, write_result
from runtime.checkout import CHECKOUT
from runtime.child import child_command
from schemas.record import short_hash
from training.pictures.curves import Arm, band, comparison_plot
from training.policy.held_out_evaluation import CaseResult, column

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]

#: name -> (method, control)
ARMS = {
    "Flow-GRPO": ("global", "none"),
    "SpatialFlow-GRPO": ("spatial", "none"),
    "permuted masks": ("spatial", "permuted-masks"),
    "permuted advantages": ("spatial", "permuted-advantages"),
}
OURS = "SpatialFlow-GRPO"
FIGURES = ("region_reward", "all_right", "region_phi", "background")
PLOTTED = {"region_reward": "Region reward, gain over the start", "all_right": "All right, gain over the start"}
CONFIG = CHECKOUT / "examples" / "policy-compare.toml"
SAMPLES = 2000


def main(arguments: list[str] | None = None) -> int:
    """Trains what is not trained yet, and writes figures and plot. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_compare", description=__doc__)
    parser.add_argument("--dataset", type=Path, default=CHECKOUT / "runs" / "policy" / "dataset")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "runs" / "policy-compare")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=max(1, (os.cpu_count() or 2)), help="trainings side by side")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    work = [(arm, seed) for seed in range(given.seeds) for arm in ARMS]
    with ThreadPoolExecutor(given.at_once) as pool:
        codes = list(pool.map(lambda job: train(job[0], job[1], given.dataset, given.out, given.config), work))
    if any(codes):
        return next(code for code in codes if code)
    folders = {arm: [given.out / folder(arm, seed) for seed in range(given.seeds)] for arm in ARMS}
    arms = {arm: read_arm(places) for arm, places in folders.items()}
    logged = {arm: read_logged(places) for arm, places in folders.items()}
    report(arms, logged, tomllib.loads(given.config.read_text()), given.seeds)
    return 0


def folder(arm: str, seed: int) -> str:
    """The name of a training's folder."""
    return f"{arm.lower().replace(' ', '-')}-{seed}"


def train(arm: str, seed: int, dataset: Path, out: Path, config: Path) -> int:
    """One training, on one thread. Returns: exit code of its process."""
    method, control = ARMS[arm]
    place = out / folder(arm, seed)
    place.mkdir(parents=True, exist_ok=True)
    command = child_command("training.policy.train", "--out", str(place.resolve()))
    command += ["--config", str(config.resolve())]
    settings = {"dataset": str(dataset.resolve()), "method": method, "control": control, "seed": seed, "threads": 1}
    for name, value in settings.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with (place / "log.txt").open("ab") as said:
        code = subprocess.run(command, cwd=CHECKOUT, env=environment, stdout=said, stderr=said, check=False).returncode
    log.info("%s, seed %d: %s", arm, seed, "done" if code == 0 else f"exit code {code}, see {place.name}/log.txt")
    return code


def read_arm(folders: Sequence[Path]) -> Arm:
    """The held-out figures of an arm's trainings: (tests, seeds, requests) each."""
    tests = [json.loads((place / "trials.json").read_bytes())["trials"] for place in folders]
    updates = [test["update"] for test in tests[0]]
    figures: dict[str, Floats] = {}
    for name in FIGURES:
        by_seed = [[column(_results(test), name) for test in of_seed] for of_seed in tests]  # type: ignore[arg-type]
        figures[name] = np.array(by_seed).transpose(1, 0, 2)
    return Arm(np.array(updates, dtype=np.float64), figures)


def read_logged(folders: Sequence[Path]) -> dict[str, float]:
    """What an arm's trainings logged of their updates (KL, clip fractions, groups without spread ...), as one mean."""
    rows = [json.loads(line) for place in folders for line in (place / "figures.jsonl").read_text().splitlines()]
    names = sorted({name for row in rows for name in row} - {"update"})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _results(test: dict[str, Any]) -> list[CaseResult]:
    return [CaseResult(**{**found, "rewards": tuple(found["rewards"])}) for found in test["requests"]]


def difference(one: Floats, other: Floats) -> tuple[float, float, float]:
    """(mean of one - other, its 95 % interval), paired. Shapes: (seeds, requests); both are drawn anew."""
    gap = one - other
    rng = np.random.default_rng(int(short_hash("arms differ", gap.shape), 16))
    drawn = [
        np.nanmean(gap[rng.integers(gap.shape[0], size=gap.shape[0])][:, rng.integers(gap.shape[1], size=gap.shape[1])])
        for _ in range(SAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.nanmean(gap)), float(low), float(high)


def report(arms: dict[str, Arm], logged: dict[str, dict[str, float]], config: dict[str, Any], seeds: int) -> None:
    """Writes the table, the plot and the result. logged: of each arm, the means of what its updates logged."""
    rows, table = [], {}
    for name in FIGURES:
        ours = arms[OURS].figures[name][-1]
        for arm, found in arms.items():
            spread = band(found.figures[name])
            table[f"{name}, {arm}"] = {
                "updates": found.updates.tolist(),
                "mean": spread.mean.tolist(),
                "low": spread.low.tolist(),
                "high": spread.high.tolist(),
                "by_seed": np.nanmean(found.figures[name], axis=2).T.tolist(),
            }
            if arm != OURS:
                theirs = found.figures[name][-1]
                gap, low, high = difference(ours, theirs)
                what = f"{name} after {int(found.updates[-1])} updates; difference {gap:+.3f} [{low:+.3f}, {high:+.3f}]"
                rows.append(row(what, "share", float(np.nanmean(ours)), float(np.nanmean(theirs)), arm))
        first, last = arms[OURS].figures[name][0], ours
        gap, low, high = difference(last, first)
        what = f"{name} against the start; difference {gap:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(row(what, "share", float(np.nanmean(last)), float(np.nanmean(first)), "the start"))
    requests = next(iter(arms.values())).figures[FIGURES[0]].shape[2]
    path = write_result(
        "policy-compare", rows, arms=table, logged=logged, seeds=seeds, requests=requests, config=config, synthetic=True
    )
    shown = {
        arm: Arm(a.updates, {title: a.figures[n] - a.figures[n][:1] for n, title in PLOTTED.items()})
        for arm, a in arms.items()
    }
    note = f"{requests} requests for several regions, {seeds} seeds, synthetic"
    comparison_plot(shown, path.with_suffix(".png"), title="Do regions help? The tiny policy, pixel oracle", note=note)


if __name__ == "__main__":
    sys.exit(main())
