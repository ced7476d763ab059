"""`python -m benchmarks.lanes`: what model processes of their own are worth to a build.

A stand-in editor that sleeps 200 ms for a candidate shows how much of a build's time a device works, with four CPU
workers, and what a second device brings. `sam:tiny` on the CPU shows what sending images to another process costs:
peer is the same build whose workers each load and ask the model themselves. Both sides make the same tars, or the run
ends. A GPU's rows are empty where there is none.
"""

import hashlib
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.result import row, write_result
from pipeline.build import Invocation, open_models, run_parts
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.prepare import prepare_run
from pipeline.run.workers import at_once, workers
from runtime.locks import locked
from schemas.errors import RegionwiseError

SECONDS_EACH = 0.2
SCENES, K, WORKERS = (50, 200), 4, 4
ONE, TWO = "stand-in:0", "stand-in:0,stand-in:1"
OUTLINED_SCENES, OUTLINE_WORKERS, ROUNDS = 24, 2, 3
NO_GPU = "no GPU could be had for this run"
STAND_IN = f"""
import time
from pipeline.editors.protocol import Edit

class StandIn:
    name, revision, synthetic = "stand-in", "1", True

    def edit(self, request, sources, index, seed):
        time.sleep({SECONDS_EACH})
        image = sources[0].copy()
        image[: 20 + 4 * index] = 255 - image[: 20 + 4 * index]
        return Edit(image=image, seed=seed, parameters={{}})

def make(place, device):
    return StandIn()
"""


def offer_stand_in(folder: Path) -> None:
    """An installed package with the editor, for this process and those that it starts."""
    metadata = folder / "stand_ins-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-ins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[regionwise.editors]\nstand-in = stand_in_of_benchmark:make\n")
    (folder / "stand_in_of_benchmark.py").write_text(STAND_IN)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def build_s(run: Path, config: BuildConfig, n_workers: int, *, in_lanes: bool) -> tuple[float, float]:
    """(seconds of a whole build, seconds of them that its devices worked, added up), in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(_build_s, run, config, n_workers, in_lanes).result()


def _build_s(run: Path, config: BuildConfig, n_workers: int, in_lanes: bool) -> tuple[float, float]:
    started, busy_s = time.monotonic(), 0.0
    with locked(run):
        info = prepare_run(run, config)
        if in_lanes:
            with open_models(run, config, n_workers) as (channel, devices), workers(n_workers) as executor:
                run_parts(
                    run,
                    info.n_parts,
                    executor,
                    invocation=Invocation(channel=channel),
                    at_once=at_once(executor, n_workers),
                )
                export_dataset(run, executor)
                busy_s = sum(device.busy_s for device in devices)
        else:
            with workers(n_workers) as executor:
                run_parts(run, info.n_parts, executor)
                export_dataset(run, executor)
    return time.monotonic() - started, busy_s


def tars(run: Path) -> list[str]:
    """sha256 of every tar of a run's dataset."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run / "dataset").glob("*.tar"))]


def same_tars(*runs: Path) -> None:
    """Raises: RegionwiseError where two runs differ."""
    if not tars(runs[0]) or any(tars(run) != tars(runs[0]) for run in runs):
        raise RegionwiseError("the builds of this benchmark", "made different tars", "find out why before any figure")


def stand_in_rows(folder: Path) -> list[dict[str, object]]:
    """One device and two, which sleep: builds of two lengths, since a start takes as long for both."""
    offer_stand_in(folder / "package")
    return [one for scenes in SCENES for one in stand_in_rows_of(folder, scenes)]


def stand_in_rows_of(folder: Path, scenes: int) -> list[dict[str, object]]:
    """The rows of builds of `scenes` requests."""
    settings = {"scenes": scenes, "scene_size_px": 128, "size_px": 128, "k": K, "part_requests": 2}
    config = BuildConfig.model_validate(settings | {"editor": "stand-in", "max_reject_share": 1.0})
    seconds, busy, runs = {}, {}, []
    for devices in (ONE, TWO):
        runs.append(folder / f"{scenes}-{devices}".replace(":", "-"))
        asked = config.model_copy(update={"device": devices})
        seconds[devices], busy[devices] = build_s(runs[-1], asked, WORKERS, in_lanes=True)
    same_tars(*runs)
    n, what = scenes * K, f"{scenes * K} candidates of {SECONDS_EACH:g} s, {WORKERS} workers"
    return [
        row(f"{what}: one device works, of the build's time", "share", busy[ONE] / seconds[ONE], None, limit=1.0),
        row(
            f"{what}: two devices", "candidates/s", n / seconds[TWO], n / seconds[ONE], "one device",
            limit=2 / SECONDS_EACH,
        ),
    ]  # fmt: skip


def outline_rows(folder: Path) -> list[dict[str, object]]:
    """`sam:tiny` on the CPU, in lanes and in every worker, in turns."""
    settings = {"scenes": OUTLINED_SCENES, "scene_size_px": 128, "size_px": 128, "k": K, "part_requests": 4}
    config = BuildConfig.model_validate(settings | {"segmenter": "sam:tiny"})
    times: dict[bool, list[float]] = {True: [], False: []}
    runs = []
    for number in range(ROUNDS):
        for in_lanes in (True, False):
            runs.append(folder / f"outlines-{number}-{in_lanes}")
            times[in_lanes].append(build_s(runs[-1], config, OUTLINE_WORKERS, in_lanes=in_lanes)[0])
    same_tars(*runs)
    n = OUTLINED_SCENES * K
    ours, peer = (n / statistics.median(times[in_lanes]) for in_lanes in (True, False))
    what = f"CPU, sam:tiny, {OUTLINE_WORKERS} workers: build with outlines"
    return [row(what, "candidates/s", ours, peer, "each worker loads and asks the model itself")]


def empty_gpu_rows() -> list[dict[str, object]]:
    """What a machine with GPUs would have measured."""
    return [
        row("one GPU, sam vit_h, 1024 px: it works, of the build's time", "share", None, limit=1.0, why=NO_GPU),
        row("two GPUs, sam vit_h, 1024 px", "candidates/s", None, None, "one GPU", why=NO_GPU),
    ]


def main() -> None:
    """Measures, prints and writes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [*stand_in_rows(Path(folder)), *outline_rows(Path(folder)), *empty_gpu_rows()]
    write_result("lanes", rows)


if __name__ == "__main__":
    main()
