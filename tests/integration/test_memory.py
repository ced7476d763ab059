"""What a worker's memory holds and what becomes of a build where it runs out, in real processes.

How much a part of full size takes is `benchmarks/worker_memory.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.run.folder import read_rows
from runtime.checkout import CHECKOUT
from schemas.sample import Sample
from tests.integration.builds import SMALL, build

#: 48 requests more at 256 px have 192 pictures of 197 KB more, 38 MB; their rows take 10 MB while they are written.
MOST_GROWTH_MB = 20.0


def run_python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def test_the_pictures_of_four_times_the_requests_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for requests in ("16", "64"):
        settings = ("--size-px", "256", "--k", "3", "--requests", requests, "--brought", "--no-result")
        answer = run_python("-m", "benchmarks.worker_memory", str(tmp_path), *settings)
        assert answer.returncode == 0, answer.stderr
        peaks.append(json.loads(answer.stdout)[requests]["peaks_mb"]["candidates"])
    assert 0 <= peaks[1] - peaks[0] < MOST_GROWTH_MB


LIMITED = """
import re, resource, sys
from pathlib import Path
import flows.commands
from flows.cli import main
taken = int(re.search(r"VmSize:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (taken + 300_000_000,) * 2)
main(sys.argv[1:])
"""


def test_memory_that_runs_out_is_one_line_and_no_reject(tmp_path: Path) -> None:
    """A picture of 36 megapixels takes 360 MB to be read; the process may have 300 MB more than it began with."""
    across = np.linspace(0, 255, 6_000, dtype=np.uint8)
    pixels = np.broadcast_to(across[None, :, None], (6_000, 6_000, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "huge.png", compress_level=1)
    line = {"id": "cup", "sources": ["huge.png"], "instruction": "Make the cup red"}
    (tmp_path / "requests.jsonl").write_text(json.dumps(line))
    run = tmp_path / "run"
    asked = ("--requests", str(tmp_path), "--k", "1", "--max-reject-share", "1")
    answer = run_python("-c", LIMITED, "build", "--run", str(run), *SMALL, "--json", *asked, OPENBLAS_NUM_THREADS="1")
    assert answer.returncode == 1
    error = json.loads(answer.stderr.splitlines()[-1])
    assert (error["thing"], error["fault"]) == ("stage requests, part-00000, request 'cup'", "ran out of memory")
    assert not list(run.glob("requests/*.done.json"))
    build(run, *asked)
    (row,) = read_rows(run, "requests", 0)
    assert isinstance(row, Sample)


THREADS = """
import numpy, threadpoolctl
from pipeline.run.workers import use_one_thread
def blas(): return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}
before = blas()
use_one_thread()
print(before, blas())
"""


def test_blas_that_is_loaded_already_has_one_thread_in_a_worker() -> None:
    answer = run_python("-c", THREADS, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    assert answer.stdout == "{2} {1}\n", answer.stderr
