"""The dataset's end of the pipeline: writing and reading tars beside webdataset's own, and the plan at full scale.

    python -m benchmarks.dataset RUN     # RUN: a finished run, such as runs/demo

The limit of writing is a plain copy of the same bytes with fsync; that of reading, reading the files' bytes.
The plan is made for 260,000 requests with 4 candidates each (synthetic keys and fingerprints), the size of the largest
published set of spatial rows; it is the one step that sees every key.
"""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds

from benchmarks.result import row, write_result
from pipeline.config import SplitShares
from pipeline.dataset.plan import plan_dataset
from pipeline.dataset.shards import read_dataset, read_manifest, read_samples, write_shard
from pipeline.gates.duplicates import HASH_BYTES
from pipeline.prepare import config_of
from pipeline.run.folder import ROW_SCHEMA, read_build_info, rows_path

REQUESTS, CANDIDATES, PART_REQUESTS = 260_000, 4, 256
ROUNDS = 3


def seconds(work: Callable[[], Any]) -> float:
    """The least of three runs, in seconds: the others met more of the machine's other work."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def writing(run: Path, folder: Path) -> list[dict[str, Any]]:
    """Samples/s into tars, from a run's rows and images; the peer gets the members ready-made and checks nothing."""
    info = read_build_info(run)
    config = config_of(info, run)
    plan = plan_dataset(run, info.n_parts, config.splits, config.seed, config.shard_samples)
    shard = max(plan.shards, key=lambda shard: shard.samples)
    members = list(read_samples(run / "dataset" / shard.name))
    size = (run / "dataset" / shard.name).stat().st_size

    def peer() -> None:
        with wds.ShardWriter(str(folder / "peer-%05d.tar"), maxcount=10**6, encoder=False, verbose=0) as writer:
            for key, found in members:
                writer.write({"__key__": key, **found})

    def copy() -> None:
        with (folder / "copy.tar").open("wb") as file:
            file.write((run / "dataset" / shard.name).read_bytes())
            os.fsync(file.fileno())

    ours = shard.samples / seconds(lambda: write_shard(run, folder, shard))
    theirs = shard.samples / seconds(peer)
    limit = shard.samples / seconds(copy)
    what = f"write a tar of {shard.samples} samples, {size / 1e6:.0f} MB: rows read, masks encoded, fsync, sha256"
    return [row(what, "samples/s", ours, theirs, "webdataset ShardWriter, members ready-made", limit=limit)]


def reading(run: Path) -> list[dict[str, Any]]:
    """Samples/s out of tars: members as bytes, and with every row validated."""
    dataset = run / "dataset"
    names = [shard.name for shard in read_manifest(dataset).shards if shard.split == "train"]
    count = sum(shard.samples for shard in read_manifest(dataset).shards if shard.split == "train")
    urls = [str(dataset / name) for name in names]
    raw = count / seconds(lambda: [sum(1 for _ in read_samples(dataset / name)) for name in names])
    checked = count / seconds(lambda: sum(1 for _ in read_dataset(dataset, "train")))
    peer = count / seconds(lambda: sum(1 for _ in wds.WebDataset(urls, shardshuffle=False)))
    limit = count / seconds(lambda: [(dataset / name).read_bytes() for name in names])
    return [
        row("read members as bytes", "samples/s", raw, peer, "webdataset, not decoded", limit=limit),
        row(
            "read with rows validated and a position",
            "samples/s",
            checked,
            peer,
            "webdataset, not decoded",
            limit=limit,
        ),
    ]


def write_keys(run: Path) -> int:
    """Gates parts with the key columns of REQUESTS requests; the records are left empty. Returns the part count."""
    rng = np.random.default_rng(0)
    n_parts = -(-REQUESTS // PART_REQUESTS)
    (run / "gates").mkdir(parents=True)
    for part in range(n_parts):
        first = part * PART_REQUESTS
        requests = [f"{n:016x}" for n in range(first, min(first + PART_REQUESTS, REQUESTS))]
        fingerprints = [rng.bytes(HASH_BYTES).hex() for _ in requests]
        rows = [
            {
                "key": f"{request}-{k}",
                "request": request,
                "name": request,
                "kept": True,
                "instruction": request,
                "sources": [request],
                "source_fingerprint": fingerprint,
                "edited_fingerprint": rng.bytes(HASH_BYTES).hex(),
            }
            for request, fingerprint in zip(requests, fingerprints, strict=True)
            for k in range(CANDIDATES)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), rows_path(run, "gates", part), compression="zstd")
    return n_parts


def planning(run: Path) -> list[dict[str, Any]]:
    """Seconds and memory of the plan at full scale."""
    n_parts = write_keys(run)
    started = time.perf_counter()
    plan = plan_dataset(run, n_parts, SplitShares(), 0, 1024)
    took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    kept = sum(shard.samples for shard in plan.shards)
    what = f"plan {REQUESTS} requests, {kept} samples, {len(plan.shards)} shards, {len(plan.dropped)} dropped"
    why = "no peer does this step"
    return [row(what, "s", took, why=why), row("peak memory of the plan's process", "GB", peak, why=why)]


def main(arguments: list[str]) -> None:
    """Measures everything and writes `benchmarks/results/dataset.json`."""
    if len(arguments) != 1:
        sys.exit("usage: python -m benchmarks.dataset RUN (a finished run)")
    run = Path(arguments[0])
    folder = Path(tempfile.mkdtemp(dir=run))
    try:
        rows = [*writing(run, folder), *reading(run), *planning(folder / "scale")]
    finally:
        shutil.rmtree(folder)
    write_result("dataset", rows, rounds=ROUNDS)


if __name__ == "__main__":
    main(sys.argv[1:])
