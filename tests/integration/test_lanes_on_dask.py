"""Model calls on a real Dask cluster of one worker with the resource and two without."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from tests.cases.editor_plugin import loads_noted, offer_stand_in
from tests.integration.builds import build, tars

SETTINGS = ("--scenes", "6", "--k", "2", "--part-requests", "1", "--editor", "stand-in", "--max-reject-share", "1")
HOST = {"host": "127.0.0.1"}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of the stand-in editor, whose package is installed."""
    folder = tmp_path_factory.mktemp("notes")
    packages = offer_stand_in(tmp_path_factory.mktemp("packages"), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(packages))
        patch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
        yield folder


@pytest.fixture(scope="module")
def cluster(notes: Path) -> Iterator[SpecCluster]:
    scheduler = {"cls": Scheduler, "options": {**HOST, "port": 0, "dashboard_address": "127.0.0.1:0"}}
    plain = {"cls": Nanny, "options": {**HOST, "nthreads": 1}}
    with_device = {"cls": Nanny, "options": {**HOST, "nthreads": 1, "resources": {"GPU": 1}}}
    with SpecCluster({"plain": plain, "another": plain, "device": with_device}, scheduler=scheduler) as made:
        yield made


def test_a_worker_without_the_resource_gets_no_model_call(cluster: SpecCluster, notes: Path, tmp_path: Path) -> None:
    answer = build(tmp_path / "dask", *SETTINGS, "--dask", cluster.scheduler_address)
    assert answer.returncode == 0, answer.stderr
    assert len(loads_noted(notes)) == 1
    with Client(cluster) as client:
        loaded = client.run(lambda: "stand_in_of_tests" in sys.modules)
        offered = client.scheduler_info(n_workers=-1)["workers"]
    assert len(loaded) == 3
    assert loaded == {address: bool(worker["resources"]) for address, worker in offered.items()}
    assert build(tmp_path / "here", *SETTINGS, "--workers", "2").returncode == 0
    assert len(tars(tmp_path / "here")) > 0
    assert tars(tmp_path / "dask") == tars(tmp_path / "here")


def test_a_model_that_hangs_is_one_line_that_names_the_part(cluster: SpecCluster, notes: Path, tmp_path: Path) -> None:
    (notes / "misdeed").write_text("hang")
    dask = ("--dask", cluster.scheduler_address, "--model-timeout-s", "2")
    answer = build(tmp_path / "run", *SETTINGS, *dask)
    (notes / "misdeed").unlink()
    assert answer.returncode == 1
    told = json.loads(answer.stderr)
    assert told["thing"] == "the editor"
    assert told["fault"].startswith("gave no answer for candidates part ")


def test_a_cluster_without_the_resource_is_refused_before_anything_starts(notes: Path, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", **HOST) as cluster:
        answer = build(tmp_path / "run", *SETTINGS, "--dask", cluster.scheduler_address)
        assert answer.returncode == 2
        assert (
            "has no worker that offers the resource GPU, and this build asks models"
            in json.loads(answer.stderr)["fault"]
        )
        assert not list((tmp_path / "run").glob("*/part-*.attempts"))
        plain = build(tmp_path / "plain", "--scenes", "1", "--k", "1", "--dask", cluster.scheduler_address)
        assert plain.returncode == 0, plain.stderr
