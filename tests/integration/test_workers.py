"""The same build on one process, on two, and on a Dask cluster; a run in use, another config, and Ctrl-C."""

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from distributed import LocalCluster

from runtime.locks import locked
from tests.integration.builds import attempts, build, command, tars, written

SETTINGS = ("--scenes", "24", "--part-requests", "2")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    answer = build(run, *SETTINGS, "--workers", "1")
    assert answer.returncode == 0, answer.stderr
    assert len(tars(run)) > 2
    return run


def test_two_processes_write_the_same_tars(one: Path, tmp_path: Path) -> None:
    answer = build(tmp_path / "two", *SETTINGS, "--workers", "2")
    assert answer.returncode == 0, answer.stderr
    assert tars(tmp_path / "two") == tars(one)


def test_a_dask_cluster_writes_the_same_tars(one: Path, tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        answer = build(tmp_path / "dask", *SETTINGS, "--dask", cluster.scheduler_address)
    assert answer.returncode == 0, answer.stderr
    assert tars(tmp_path / "dask") == tars(one)


def test_no_scheduler_at_the_address_is_one_line(tmp_path: Path) -> None:
    answer = build(tmp_path / "run", *SETTINGS, "--dask", "tcp://127.0.0.1:9")
    assert answer.returncode == 2
    assert json.loads(answer.stderr)["thing"] == "Dask scheduler tcp://127.0.0.1:9"


def test_again_does_no_work(one: Path) -> None:
    before = attempts(one), written(one)
    answer = build(one, *SETTINGS, "--workers", "2")
    assert json.loads(answer.stdout)["parts_made"] == 0
    assert (attempts(one), written(one)) == before
    assert set(before[0].values()) == {1}


def test_a_run_in_use_is_refused_naming_the_process(one: Path) -> None:
    with locked(one):
        answer = build(one, *SETTINGS)
    assert answer.returncode == 1
    assert f"process {os.getpid()} " in json.loads(answer.stderr)["fault"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        (("--k", "3"), "was made with k = 4, now it is 3"),
        (("--seed", "7"), "was made with seed = 0, now it is 7"),
    ],
)
def test_another_config_is_refused_naming_the_field(one: Path, setting: tuple[str, str], fault: str) -> None:
    answer = build(one, *SETTINGS, *setting)
    assert answer.returncode == 2
    assert json.loads(answer.stderr)["fault"] == fault


def test_another_threshold_is_refused_naming_the_field_in_its_group(one: Path, tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text("[gates]\nmax_aspect = 3.5\n")
    answer = build(one, *SETTINGS, "--config", str(tmp_path / "build.toml"))
    assert answer.returncode == 2
    assert json.loads(answer.stderr)["fault"].startswith("was made with gates.max_aspect = ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_with_130_and_the_build_goes_on(one: Path, tmp_path: Path, workers: str) -> None:
    run = tmp_path / "run"
    arguments = command(run, *SETTINGS, "--workers", workers)
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell's background jobs inherit that it is ignored
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    ) as process:
        while not (run / "requests" / "part-00000.done.json").is_file():
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(errors)["fault"] == "was interrupted"
    begun = attempts(run)
    assert len(begun) < len(attempts(one))
    answer = build(run, *SETTINGS, "--workers", workers)
    assert answer.returncode == 0, answer.stderr
    assert tars(run) == tars(one)
    assert set(attempts(run).values()) == {1}
