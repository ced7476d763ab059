"""A build on a Dask cluster whose workers join late, are killed, and are killed by what they work on.

Real schedulers and workers on 127.0.0.1, real SIGKILLs. The scheduler gives work up at its first lost worker, and
workers have two threads: so each death hits units that have nothing to do with it, which is what must do no harm.
"""

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import cv2
import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info

from pipeline.build import run_parts, run_stage_part, stage_counts
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.prepare import prepare_run
from pipeline.run.folder import STAGES, Row, read_build_info, read_kept, read_rows
from pipeline.run.in_flight import read_marker
from pipeline.run.workers import workers
from schemas.errors import RegionwiseError
from schemas.sample import Rejection, Sample
from tests.cases.editor_plugin import offer_killer
from tests.integration.builds import attempts, command, tars


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An editor `killer`, known here and in all processes that are started from here."""
    folder = str(offer_killer(tmp_path_factory.mktemp("packages")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def cluster(packages: None) -> Iterator[LocalCluster]:
    places = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, silence_logs=60, **places) as made,
    ):
        yield made


def make(run: Path, config: BuildConfig, dask_address: str | None = None) -> Path:
    """A whole build, by one thread or on a cluster."""
    n_parts = prepare_run(run, config).n_parts
    with workers(1, dask_address, run) as executor:
        run_parts(run, n_parts, executor)
        export_dataset(run, executor)
    return run


def units_done(run: Path) -> int:
    return sum(1 for _ in run.glob("*/part-*.done.json"))


def kill_a_worker_at_work(run: Path, driver: "Future[Path]") -> set[int]:
    """kill -9 to a process whose marker says that it works on a row; its pid, or none where the build has ended."""
    while not driver.done():
        for path in run.glob("*/part-*.working.json"):
            marker = read_marker(path)
            if marker and marker.working:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(marker.pid).kill()
                    return {marker.pid}
        time.sleep(0.02)
    return set()


def threads_of_worker() -> tuple[int, int, set[int]]:
    """Of the worker that runs it: its pid, OpenCV's threads, and those of each BLAS that it has loaded."""
    return os.getpid(), cv2.getNumThreads(), {pool["num_threads"] for pool in threadpool_info()}


@pytest.mark.parametrize(
    ("scenes", "part_requests", "kills", "every_s"),
    [(12, 2, 2, 0), pytest.param(400, 8, 9, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_lost_workers_cost_their_parts_only_and_all_that_come_have_one_thread(
    cluster: LocalCluster, tmp_path: Path, scenes: int, part_requests: int, kills: int, every_s: float
) -> None:
    config = BuildConfig(scenes=scenes, scene_size_px=64, part_requests=part_requests)
    quiet, run = make(tmp_path / "quiet", config), tmp_path / "killed"
    units = len(STAGES) * read_build_info(quiet).n_parts
    killed = set[int]()
    with ThreadPoolExecutor(1) as thread, Client(cluster.scheduler_address) as client:
        driver = thread.submit(make, run, config, cluster.scheduler_address)
        for number in range(kills):
            time.sleep(every_s)
            while not every_s and units_done(run) < units * number // kills and not driver.done():
                time.sleep(0.02)
            killed |= kill_a_worker_at_work(run, driver)
            cluster.scale(2)  # joins while the build is under way
        driver.result(300)
        client.wait_for_workers(2)
        found = client.run(threads_of_worker).values()
    assert tars(run) == tars(quiet)
    again = sum(attempts(run).values()) - units
    print(f"\n{len(killed)} kills: {again} of {units} units were begun again")
    assert len(killed) == kills if not every_s else len(killed) > 1
    assert len(killed) <= again <= 3 * len(killed)
    assert not list(run.rglob("*.working.json"))
    assert not killed & {pid for pid, _, _ in found}
    assert [(opencv, blas) for _, opencv, blas in found] == [(1, {1})] * 2


def rows_of(run: Path, stage: str) -> list[Row]:
    return [row for part in range(read_build_info(run).n_parts) for row in read_rows(run, stage, part)]


def members(run: Path) -> dict[str, str]:
    """sha256 of all that the tars of a dataset hold, by name."""
    found = {}
    for path in (run / "dataset").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                found[member.name] = sha256(file.read() if file else b"").hexdigest()
    return found


def test_what_kills_its_workers_is_a_reject_and_the_rest_is_built(cluster: LocalCluster, tmp_path: Path) -> None:
    config = BuildConfig(scenes=8, scene_size_px=64, part_requests=2, k=2, editor="killer:nobody")
    quiet = make(tmp_path / "quiet", config)
    killer = rows_of(quiet, "requests")[1]
    assert isinstance(killer, Sample)
    config = config.model_copy(update={"editor": f"killer:{killer.request.name}"})
    run = make(tmp_path / "killed", config, cluster.scheduler_address)
    (reject,) = [row for row in rows_of(run, "candidates") if isinstance(row, Rejection)]
    assert (reject.key, reject.reason, reject.sample) == (killer.key, "kills_worker", killer)
    assert repr(killer.request.name) in reject.detail
    (counted,) = [count for count in stage_counts(run, 4) if count.stage == "candidates"]
    assert (counted.rows_in, counted.kept, counted.rejected) == (8, 14, {"kills_worker": 1})
    there = members(quiet)
    assert any(name.startswith(killer.key) for name in there)
    assert members(run) == {name: digest for name, digest in there.items() if not name.startswith(killer.key)}
    begun = attempts(run)
    assert begun["candidates/part-00000.attempts"] == 4
    make(run, config)  # the reject is done: here it would kill this process
    assert attempts(run) == begun


def test_a_local_pool_says_what_its_process_worked_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = BuildConfig(scenes=4, scene_size_px=64, part_requests=2)
    prepare_run(tmp_path / "plan", config)
    run_stage_part(str(tmp_path / "plan"), "requests", 1)
    name = next(read_kept(tmp_path / "plan", "requests", 1)).request.name
    prepare_run(run, config.model_copy(update={"editor": f"killer:{name}"}))
    with pytest.raises(RegionwiseError) as error, workers(2, None, run) as pool:
        run_parts(run, 2, pool)
    fault = f"ended while it worked on request '{name}' of candidates part 1 (out of memory, or killed)"
    assert (error.value.thing, error.value.fault) == ("a worker process", fault)


def test_a_lost_scheduler_is_one_line(tmp_path: Path) -> None:
    place, run = tmp_path / "scheduler.json", tmp_path / "run"
    here = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(place))
    arguments = [sys.executable, "-m", "distributed.cli.dask_scheduler", *here]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as scheduler:
        try:
            while not place.is_file():
                time.sleep(0.05)
            address = json.loads(place.read_text())["address"]
            arguments = command(run, "--scenes", "4", "--part-requests", "2", "--dask", address)
            with (
                subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as driver,
                Client(address, set_as_default=False) as client,
            ):
                while not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
                    assert driver.poll() is None
                    time.sleep(0.05)
                scheduler.kill()
                errors = driver.communicate(timeout=120)[1]
        finally:
            scheduler.kill()
    assert driver.returncode == 1
    (line,) = errors.strip().splitlines()
    assert json.loads(line)["fault"] == "went away or was restarted"
