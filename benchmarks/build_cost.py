"""What a candidate costs in CPU between editor and export, against an earlier commit.

    git worktree add ../before COMMIT; python -m benchmarks.build_cost ../before

Procedural scenes, four candidates a request, one process; the stages of both checkouts run by turns on the same
requests. Alignment is part of the candidates stage: what that takes longer than before counts with regions and gates.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.result import row, write_result
from pipeline.build import run_stage_part
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run
from runtime.checkout import CHECKOUT

SIZES_PX = {128: 24, 512: 8, 1024: 3}
K = 4
STAGES = ("requests", "candidates", "regions", "gates")


def measure(size_px: int, requests: int, folder: Path) -> dict[str, float]:
    """CPU seconds of each stage over one part, in this process."""
    config = BuildConfig(scenes=requests, scene_size_px=size_px, size_px=size_px, k=K, part_requests=requests,
                         max_reject_share=1)  # fmt: skip
    run = folder / f"run-{size_px}"
    prepare_run(run, config)
    seconds = {}
    for stage in STAGES:
        begun = time.process_time()
        run_stage_part(str(run), stage, 0)
        seconds[stage] = time.process_time() - begun
    return seconds


def measured_in(checkout: Path, size_px: int, requests: int) -> dict[str, float]:
    """`measure` with the code of a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--measure", str(size_px), str(requests), folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints and writes benchmarks/results/build-cost.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build_cost", description=__doc__)
    parser.add_argument("before", type=Path, nargs="?", help="a checkout of the earlier commit")
    parser.add_argument("--measure", nargs=3, metavar=("SIZE_PX", "REQUESTS", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        size_px, requests, folder = given.measure
        print(json.dumps(measure(int(size_px), int(requests), Path(folder))))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=given.before, capture_output=True, text=True)
    peer, rows, seconds = commit.stdout.strip(), [], {}
    for size_px, requests in SIZES_PX.items():
        runs = [[measured_in(one, size_px, requests) for one in (CHECKOUT, given.before.resolve())] for _ in range(3)]
        now, then = ({stage: min(one[side][stage] for one in runs) for stage in STAGES} for side in (0, 1))
        per = 1e3 / (requests * K)
        total = [side["regions"] + side["gates"] + side["candidates"] - then["candidates"] for side in (now, then)]
        what = f"regions, gates and alignment at {size_px} px"
        rows.append(row(what, "ms of CPU a candidate", per * total[0], per * total[1], peer, higher_is_better=False))
        alone = [side["regions"] + side["gates"] for side in (now, then)]
        what = f"regions and gates at {size_px} px"
        rows.append(row(what, "ms of CPU a candidate", per * alone[0], per * alone[1], peer, higher_is_better=False))
        seconds[size_px] = {
            "now": {k: per * v for k, v in now.items()},
            "before": {k: per * v for k, v in then.items()},
        }
    write_result("build-cost", rows, ms_a_candidate_by_stage=seconds)


if __name__ == "__main__":
    main()
