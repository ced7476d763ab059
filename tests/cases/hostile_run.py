"""A small finished run whose every name, label and text tries to break out of a page or a card."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.build import run_parts
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.prepare import prepare_run
from pipeline.run.workers import workers
from runtime.locks import locked

SCRIPT = "<script>window.hacked = 1</script>"
BREAK_OUT = "\"'><img src=x onerror='window.hacked=2'>{{ 7*7 }}</style></svg>"
INSTRUCTION = f"Make the ‮square red {SCRIPT}{BREAK_OUT}"
RUN_NAME = "hostile <b>run & more"
SPLITS = ("train", "validation", "test")
SIDE_PX = 96


def build_hostile_run(folder: Path) -> Path:
    """Builds the run below `folder` and returns where it is: 9 requests of a file, 5 scenes, one line that is bad."""
    requests = _write_requests(folder / "in")
    run = folder / RUN_NAME
    config = BuildConfig(requests=(str(requests),), scenes=5, scene_size_px=64, part_requests=4, k=3, seed=5)
    with locked(run), workers(1) as executor:
        info = prepare_run(run, config)
        run_parts(run, info.n_parts, executor)
        export_dataset(run, executor)
    return run


def _write_requests(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = [_line(folder, number) for number in range(9)]
    lines.append(
        {"id": f"bad {SCRIPT}", "sources": [f"no{BREAK_OUT.replace('/', '')}.png"], "instruction": INSTRUCTION}
    )
    path = folder / "requests.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _line(folder: Path, number: int) -> dict[str, object]:
    """A request on its own picture; the second of every three brings an edit along."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    source = np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)).copy()
    name = f"source <i> {number}.png"
    Image.fromarray(source).save(folder / name)
    box = [20, 20, 60, 60]
    line: dict[str, object] = {
        "id": f"request {number} {BREAK_OUT}",
        "sources": [name],
        "instruction": f"{INSTRUCTION} {number}",
        "edit_type": f"type {number % 2} <u onmouseover=alert(1)>",
        "split": SPLITS[number % 3],
        "targets": [
            {"label": f"square {SCRIPT}", "operation": "recolour", "box": box, "parameters": {"color": "red"}},
        ],
    }
    if number % 3 == 1:
        source[20:60, 20:60] = (220, 30, 30)
        Image.fromarray(source).save(folder / f"edited{number}.png")
        line["candidates"] = [{"path": f"edited{number}.png", "editor": f"editor {BREAK_OUT}"}]
    return line
