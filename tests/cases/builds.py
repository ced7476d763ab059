"""Small builds of procedural scenes, made in this process or once for all workers of pytest-xdist."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.build import run_parts
from pipeline.config import BuildConfig, SplitShares
from pipeline.dataset.export import export_dataset
from pipeline.prepare import prepare_run
from pipeline.run.workers import workers
from runtime.locks import locked, locked_file

SMALL = BuildConfig(scenes=10, scene_size_px=64, part_requests=4, k=3, shard_samples=6, seed=3)
PLAIN_SCENES = BuildConfig(
    scenes=16,
    scene_size_px=64,
    scene_textures=("plain",),
    part_requests=16,
    k=1,
    seed=3,
    splits=SplitShares(train=0.5, validation=0.5, test=0.0),
)


def build(run: Path, config: BuildConfig, n_workers: int = 1) -> None:
    """A whole build in this process, or in processes of its own."""
    with locked(run), workers(n_workers) as executor:
        info = prepare_run(run, config)
        run_parts(run, info.n_parts, executor)
        export_dataset(run, executor)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker of pytest-xdist who needs it makes, for all of them; the others wait for it."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    place, made = folder / name, folder / f"{name}.made"
    with locked_file(folder / f"{name}.lock"):
        if not made.exists():
            make(place)
            made.touch()
    return place
