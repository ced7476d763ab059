"""The dataset that is edited: a few small shards with rows of every kind, scored and unscored ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import BuildConfig, SplitShares
from tests.cases.builds import build

SIDE_PX = 64


def _picture(seed: int) -> Image.Image:
    rows, columns = np.mgrid[:SIDE_PX, : SIDE_PX + 16]
    noise = np.random.default_rng(seed).integers(0, 40, (SIDE_PX, SIDE_PX + 16, 3))
    return Image.fromarray((np.stack([rows + seed, columns, rows + columns], axis=2) + noise).astype(np.uint8))


def _line(folder: Path, number: int) -> dict[str, Any]:
    """A request with a candidate of its own: of one source, of two, or of two turns."""
    source = _picture(number)
    source.save(folder / f"source-{number}.png")
    edited = source.copy()
    edited.paste((230, 20, 20), (20, 20, 50, 50))
    edited.save(folder / f"edited-{number}.png")
    line: dict[str, Any] = {
        "id": f"mine-{number}",
        "sources": [f"source-{number}.png"],
        "instruction": "Make the cup red",
        "targets": [{"label": "cup", "box": [20, 20, 50, 50]}],
        "candidates": [{"path": f"edited-{number}.png", "editor": "my-model", "seed": number}],
    }
    if number % 3 == 1:
        _picture(100 + number).save(folder / f"other-{number}.png")
        line |= {"kind": "composition", "sources": [*line["sources"], f"other-{number}.png"]}
    if number % 3 == 2:
        line |= {"kind": "multi_turn", "turns": ["Make the cup pink", "Make the cup red"]}
    return line


def built(folder: Path) -> Path:
    """The run, `folder/run`, whose `dataset` is whole: 14 rows in 4 shards of three splits."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    lines = [_line(photos, number) for number in range(6)]
    (photos / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = BuildConfig(
        requests=(str(photos / "requests.jsonl"),),
        scenes=4,
        scene_size_px=SIDE_PX,
        part_requests=10,
        k=2,
        shard_samples=4,
        seed=3,
        max_reject_share=1,
        splits=SplitShares(train=0.6, validation=0.2, test=0.2),
    )
    build(folder / "run", config)
    return folder / "run"
