"""The most memory that a worker process takes for one part, and how it grows with the part.

    python -m benchmarks.worker_memory FOLDER [--size-px 1024] [--k 4] [--requests 64 256] [--brought]

One worker process, as a build starts them, takes one part of procedural scenes through all stages and writes its tars;
after each it says its peak (`ru_maxrss`). No model is loaded. At 1,024 px it takes 3.6 s of CPU a candidate. With
--brought the candidates are picture files and the two stages that store pictures run alone: 0.2 s a candidate.

What was measured is kept in FOLDER: started again it is not measured again. A process takes over the peak of the one
that starts it: this one stays small and reads no images.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import once, row, write_result
from pipeline.build import run_stage_part
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run
from pipeline.run.folder import STAGES
from pipeline.run.workers import start_processes
from runtime.files import write_whole
from runtime.images import ImageU8, encode_image
from runtime.locks import locked

#: What is allowed: growth from the smallest part to the largest, and the peak of a worker without a model.
MOST_GROWTH_MB, MOST_MB = 30.0, 450.0
#: The stages that store pictures; the others read them one request at a time.
STORING = ("requests", "candidates")


def peak_mb() -> float:
    """The most memory that this process ever had resident, in MB (10**6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@contextmanager
def worker() -> Iterator[ProcessPoolExecutor]:
    """One worker process, which has imported what a worker of `regionwise build` has."""
    with start_processes(1) as pool:
        pool.submit(import_module, "flows.cli").exception()
        yield pool


def peaks_mb(run: Path, config: BuildConfig, stages: Sequence[str]) -> dict[str, float]:
    """The peak of a worker that does part 0: at its start, after each stage, and after the export where all ran."""
    with locked(run), worker() as pool:
        prepare_run(run, config)
        peaks = {"start": pool.submit(peak_mb).result()}
        for stage in stages:
            pool.submit(run_stage_part, str(run.resolve()), stage, 0).result()
            peaks[stage] = pool.submit(peak_mb).result()
        if stages == STAGES:
            from pipeline.dataset.export import export_dataset

            export_dataset(run, pool)
            peaks["export"] = pool.submit(peak_mb).result()
    return peaks


def picture(number: int, size_px: int) -> ImageU8:
    """Picture `number`, another for each: colours that run over it."""
    y, x = np.mgrid[:size_px, :size_px]
    waves = (x + 7 * number, y + 3 * number, x + y + 11 * number)
    return np.stack(waves, axis=2).astype(np.uint8)


def write_requests(folder: Path, requests: int, k: int, size_px: int) -> Path:
    """A request file with a source and `k` candidates to a request, all as PNG beside it."""
    lines = []
    for number in range(requests):
        image, name = picture(number, size_px), f"picture-{number}"
        for index in range(k + 1):
            image[: 8 * index, :99] = 40 * index
            write_whole(folder / f"{name}-{index}.png", encode_image(image, "png"))
        brought = [{"path": f"{name}-{index}.png"} for index in range(1, k + 1)]
        lines.append({"id": name, "sources": [f"{name}-0.png"], "instruction": "Make it red", "candidates": brought})
    write_whole(folder / "requests.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return folder


def one_part(requests: int, k: int, size_px: int, brought: Path | None = None) -> BuildConfig:
    """A build that is one part: of scenes, or of the pictures in the folder `brought`."""
    asked: dict[str, Any] = {"scenes": requests, "scene_size_px": size_px, "k": k}
    if brought is not None:
        asked = {"requests": (str(brought),)}
    return BuildConfig(size_px=size_px, part_requests=requests, max_reject_share=1, **asked)


def measured(folder: Path, requests: int, k: int, size_px: int, brought: bool) -> dict[str, Any]:
    """Peaks by stage and seconds of a part, measured or kept from before."""
    name = f"{requests}-{k}-{size_px}" + ("-brought" if brought else "")

    def measure() -> dict[str, Any]:
        started = time.monotonic()
        pictures = write_requests(folder / f"pictures-{name}", requests, k, size_px) if brought else None
        config = one_part(requests, k, size_px, pictures)
        peaks = peaks_mb(folder / f"run-{name}", config, STORING if brought else STAGES)
        return {"peaks_mb": peaks, "seconds": round(time.monotonic() - started, 1)}

    made_of = {"requests": requests, "k": k, "size_px": size_px, "brought": brought}
    return once(folder / f"peaks-{name}.json", made_of, measure)


def rows_of(found: dict[int, dict[str, Any]], k: int, size_px: int) -> list[dict[str, Any]]:
    """A row for each size of part, and one for the growth between the smallest and the largest."""
    why = "no peer keeps parts"
    highest = {number: max(one["peaks_mb"].values()) for number, one in found.items()}
    rows = [
        row(f"peak of a worker, {number} requests x {k}, {size_px} px", "MB", peak, limit=MOST_MB, why=why)
        for number, peak in highest.items()
    ]
    least, most = min(highest), max(highest)
    what = f"growth of the peak from {least} to {most} requests x {k}, {size_px} px"
    return [*rows, row(what, "MB", highest[most] - highest[least], limit=MOST_GROWTH_MB, why=why)]


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes `benchmarks/results/worker-memory.json`, or `worker-memory-brought.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_memory", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the runs and what was measured of them")
    parser.add_argument("--size-px", type=int, default=1024)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--requests", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--brought", action="store_true", help="candidates from files, and the stages that store alone")
    parser.add_argument("--no-result", action="store_true", help="print what was measured alone")
    given = parser.parse_args(arguments)
    found = {number: measured(given.folder, number, given.k, given.size_px, given.brought) for number in given.requests}
    print(json.dumps(found))
    if not given.no_result:
        name = "worker-memory-brought" if given.brought else "worker-memory"
        write_result(name, rows_of(found, given.k, given.size_px), measured=found)


if __name__ == "__main__":
    main()
