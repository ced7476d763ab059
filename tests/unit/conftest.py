"""A small build of procedural scenes, made once, that tests copy and damage."""

import shutil
from pathlib import Path

import pytest

from pipeline.build import prepare_run, run_parts
from pipeline.config import BuildConfig
from pipeline.export import export_dataset
from pipeline.run_folder import locked
from pipeline.workers import workers

SMALL = BuildConfig(scenes=10, scene_size_px=64, part_requests=4, k=3, shard_samples=6, seed=3)


def build(run: Path, config: BuildConfig) -> None:
    """A whole build in this process."""
    with locked(run), workers(1) as executor:
        info = prepare_run(run, config)
        run_parts(run, info.n_parts, executor)
        export_dataset(run, executor)


@pytest.fixture(scope="session")
def built_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `SMALL`; never changed, take `small_run` for that."""
    run = tmp_path_factory.mktemp("built") / "small"
    build(run, SMALL)
    return run


@pytest.fixture
def small_run(built_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to damage."""
    return shutil.copytree(built_run, tmp_path / "small")
