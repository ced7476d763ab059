"""The commands that write datasets, `build` and `export`, each some seconds of work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import BuildConfig
from tests.cases.builds import build as build_here
from tests.chaos.command import Command, dataset_of, sound_rows

#: Six scenes with two edits each, a sample to a tar.
SCENES = BuildConfig(scenes=6, scene_size_px=64, size_px=64, part_requests=2, k=2, shard_samples=1, seed=3)
BROUGHT, SCENE_PARTS = 6, 4
Made = Callable[[str, Callable[[Path], object]], Path]


def build(_made: Made) -> Command:
    """`build` of scenes and of photographs that somebody brings, a request to a part, by two processes."""

    def words(place: Path) -> list[str]:
        scenes = ["--scenes", str(SCENE_PARTS), "--scene-size-px", "64", "--size-px", "64", "--k", "2"]
        requests = ["--requests", str(place / "photographs"), "--part-requests", "1", "--shard-samples", "4"]
        return ["build", "--run", str(place / "run"), *scenes, *requests, "--workers", "2"]

    return Command(
        name="build",
        prepare=lambda place: write_photographs(place / "photographs"),
        words=words,
        progress=_units,
        kept=_units,
        made=lambda place: dataset_of(place / "run"),
        moments=(4, 9),
        tight_bytes=120_000,
        takes_up=lambda place: ["resume", "--run", str(place / "run"), "--workers", "2"],
    )


def _units(place: Path) -> int:
    """Parts of stages and tars that are whole."""
    return sum(1 for _ in (place / "run").glob("*/*.done.json"))


def write_photographs(folder: Path) -> None:
    """A request file with pictures of its own: a square on a smooth ground."""
    folder.mkdir(parents=True)
    lines = [json.dumps(_photograph(folder, number)) + "\n" for number in range(BROUGHT)]
    (folder / "requests.jsonl").write_text("".join(lines))


def _photograph(folder: Path, number: int) -> dict[str, Any]:
    coarse = np.random.default_rng(number).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    box = (16, 16, 44, 44)
    image.paste((40, 80, 30 * number), box)
    image.save(folder / f"{number}.png")
    target = {"label": "square", "operation": "recolour", "box": list(box), "parameters": {"color": "red"}}
    return {
        "id": f"photo-{number}",
        "sources": [f"{number}.png"],
        "instruction": "Make the square red.",
        "targets": [target],
    }


def export(made: Made, workers: int = 2) -> Command:
    """`export` of a finished run with other scores, which writes every tar anew beside those that are there."""
    finished = made("scenes", lambda folder: build_here(folder / "run", SCENES))
    return Command(
        name="export",
        prepare=lambda place: copy(finished, place),
        words=lambda place: [*("export", "--run", str(place / "run"), "--scores", "oracle", "--workers", str(workers))],
        progress=lambda place: sum(1 for _ in (place / "run").glob(".dataset-new/*.tar")),
        kept=lambda place: sound_rows(place / "run"),
        made=lambda place: dataset_of(place / "run"),
        moments=(1, 2),
        tight_bytes=40_000,
    )


def copy(finished: Path, place: Path) -> None:
    """Puts what was made once into a folder of its own."""
    shutil.copytree(finished, place, dirs_exist_ok=True)


def once(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills on the first call for it."""
    if not (folder / name).exists():
        make(folder / name)
    return folder / name
