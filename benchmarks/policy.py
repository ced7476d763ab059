"""What a policy's training costs: `python -m benchmarks.policy [--architecture klein-4b] [--device cuda]`.

1. The spatial loss against the global one: time of a training step and its peak memory, alternating in one run.
2. A rollout and an update of one group against the same work written plainly: the pipeline called once for each sample,
   text and source encoded for each, samples learnt one by one.

Weights are random: they serve for time, and nothing here says what an edit is worth. `klein-4b` is the architecture of
FLUX.2-klein at 512 px, group 16, 10 steps of which 3 are trained; it needs a GPU, and without one its rows are empty.
"""

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_measures import seconds_of
from benchmarks.policy_work import ARCHITECTURES, Work
from benchmarks.result import row, write_result
from runtime.checkout import CHECKOUT
from training.policy.update import PolicyBatch

#: bf16 peak of dense matrix products, in FLOP/s, by a part of the GPU's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
REPEATS = 9
NEEDS_GPU = "no GPU: four billion parameters take minutes a step on a CPU"


def loss_rows(work: Work, name: str) -> list[dict[str, Any]]:
    """The spatial loss against the global one."""
    batch = work.rollout()
    methods = ("spatial", "global")
    for method in methods:
        work.update(batch, method)
    taken: dict[str, list[float]] = {method: [] for method in methods}
    ratios = []
    for _ in range(REPEATS):
        for method in methods:
            taken[method].append(seconds_of(lambda: work.update(batch, method), work.device))  # noqa: B023
        ratios.append(taken["spatial"][-1] / taken["global"][-1])
    ours, peer = (median(taken[method]) for method in methods)
    time_row = row(f"a training step, {name}; median of ratios {median(ratios):.3f}", "s", ours, peer, "global loss",
                   higher_is_better=False)  # fmt: skip
    peaks = {method: peak_mib(work, batch, method, name) for method in methods}
    memory_row = row(
        f"peak memory of a training step, {name}", "MiB", peaks["spatial"], peaks["global"], "global loss",
        higher_is_better=False,
    )  # fmt: skip
    return [time_row, memory_row]


def peak_mib(work: Work, batch: PolicyBatch, method: str, name: str) -> float:
    """Peak memory of a step above what was there before, in MiB: on a CPU of a fresh process, the least of three."""
    if work.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.update(batch, method)
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.policy", "--architecture", name, "--peak", method]
    return min(
        float(json.loads(subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout))
        for _ in range(3)
    )


def peak_here_mib(work: Work, method: str) -> float:
    """Peak memory of a step of this process above what it held before."""
    batch = work.noise()
    gc.collect()
    before = highest_kib()
    work.update(batch, method)
    return (highest_kib() - before) / 1024


def highest_kib() -> int:
    """The most that this process has held, in KiB: of this program alone, where `ru_maxrss` is its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def work_rows(work: Work, name: str) -> list[dict[str, Any]]:
    """Rollout and update of a group against the same written plainly."""
    batch = work.rollout()
    work.update(batch, "spatial")
    group = work.shape.group
    rollout_s = median([seconds_of(work.rollout, work.device) for _ in range(3)])
    plain_rollout_s = seconds_of(work.plain_rollout, work.device)
    update_s = median([seconds_of(lambda: work.update(batch, "spatial"), work.device) for _ in range(3)])
    plain_update_s = seconds_of(lambda: work.plain_update(batch), work.device)
    rows = [
        row(f"a rollout image, {name}", "s", rollout_s / group, plain_rollout_s / group, "pipeline call in a loop",
            higher_is_better=False),
        row(f"an update of {group} samples, {name}", "s", update_s, plain_update_s, "one by one, nothing reused",
            higher_is_better=False),
        row(f"rollout and update, {name}", "s", rollout_s + update_s, plain_rollout_s + plain_update_s, "plainly",
            higher_is_better=False),
    ]  # fmt: skip
    peak = next((v for k, v in PEAKS.items() if work.device == "cuda" and k in torch.cuda.get_device_name()), None)
    guided = 2 if work.policy.settings.guidance > 1 else 1
    forwards = group * work.shape.steps * guided
    flop = work.flop_a_forward() * forwards
    reached = flop / rollout_s
    why = None if peak else "no GPU whose bf16 peak is known"
    rows.append(row(f"rollout, {name}", "share of the bf16 peak", reached / peak if peak else None, limit=1.0, why=why))
    rows.append(row(f"rollout, {name}", "TFLOP/s", reached / 1e12, limit=peak / 1e12 if peak else None))
    if work.device == "cuda":
        rows.append(row(f"peak memory, {name}", "GiB", torch.cuda.max_memory_allocated() / 2**30))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes the result. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("--architecture", choices=[*ARCHITECTURES, "all"], default="all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", choices=("spatial", "global"), default=None, help="print one peak alone, in MiB")
    given = parser.parse_args(arguments)
    np.random.seed(0)
    if given.peak:
        print(json.dumps(peak_here_mib(Work(given.architecture, given.device), given.peak)))
        return 0
    rows = []
    for name in ARCHITECTURES if given.architecture == "all" else [given.architecture]:
        if name != "tiny" and given.device != "cuda":
            rows += [row(what, "s", None, why=NEEDS_GPU) for what in (f"a rollout image, {name}", f"an update, {name}")]
            continue
        work = Work(name, given.device)
        rows += loss_rows(work, name) + work_rows(work, name)
    gpu = torch.cuda.get_device_name() if given.device == "cuda" else None
    write_result("policy", rows, weights="random", gpu=gpu, torch=torch.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
