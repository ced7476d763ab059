"""A dataset of mixed kinds in the loader of the Hub: every field of every row, whole and as a stream.

Needs an environment with `datasets`, whose packages pin against ours: `make loaders` makes it.
"""

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import BuildConfig, SplitShares
from pipeline.dataset.card import write_card
from pipeline.dataset.shards import read_dataset, read_manifest
from runtime.files import add_to_tar
from runtime.images import ImageU8, encode_image
from tests.cases.builds import build

PYTHON = os.environ["REGIONWISE_LOADERS_PYTHON"]


def picture(number: int) -> ImageU8:
    """Squares of colours, 96 x 80 px, others for each number."""
    colours = np.random.default_rng(number).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return colours.repeat(16, axis=0).repeat(16, axis=1)


def request(folder: Path, number: int, sources: int) -> dict[str, Any]:
    """A request with a candidate of somebody else: nobody scored it, and nothing is known of how it was made."""
    names = [f"{number}-{index}.png" for index in range(sources)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(encode_image(picture(number + 100 * index), "png"))
    edited = picture(number)
    edited[10:50, 10:60] = (250, 20, 20)
    (folder / f"{number}-edited.png").write_bytes(encode_image(edited, "png"))
    words = "Make the sky red" if sources == 1 else "Put the cup of the second image on the table"
    target = {"label": "sky", "box": [10, 10, 60, 50]}
    return {
        "id": f"brought-{number}",
        "kind": "single" if sources == 1 else "composition",
        "sources": names,
        "instruction": words,
        "targets": [target],
        "candidates": [{"path": f"{number}-edited.png"}],
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that nobody scored, then those with scores, and last those with a second source, in one tar."""
    folder = tmp_path_factory.mktemp("loaders")
    lines = [json.dumps(request(folder, number, 1 + (number > 6))) for number in range(9)]
    (folder / "requests.jsonl").write_text("\n".join(lines))
    config = BuildConfig(
        requests=(str(folder / "requests.jsonl"),),
        scenes=6,
        scene_size_px=64,
        k=2,
        part_requests=20,
        shard_samples=100,
        max_reject_share=1.0,
        splits=SplitShares(train=1.0, validation=0.0, test=0.0),
    )
    build(folder / "run", config)
    return in_order(folder / "run" / "dataset", folder / "dataset")


def in_order(dataset: Path, out: Path) -> Path:
    """The rows of a dataset's one tar, those with the fewest fields first."""
    rows = [(row, members) for _, row, members in read_dataset(dataset, "train")]
    rows.sort(key=lambda one: (len(one[0].source_names), one[0].rater is not None))
    out.mkdir()
    with tarfile.open(out / "train-00000.tar", mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, members in rows:
            for name, data in members.items():
                add_to_tar(tar, f"{row.key}.{name}", data)
    manifest = read_manifest(dataset)
    (out / "manifest.json").write_text(manifest.model_dump_json())
    write_card(out, manifest)
    return out


def loaded(dataset: Path, home: Path) -> Any:
    """What the library reads: by way of reading (streaming or not) and split."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("read_with_datasets.py")
    answer = subprocess.run(
        [PYTHON, str(script), str(dataset)], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return of_json(answer.stdout)


def of_json(text: str | bytes) -> Any:
    """JSON whose numbers have eight decimals: the library keeps ten."""
    return json.loads(text, parse_float=lambda digits: round(float(digits), 8))


def facts(data: bytes) -> list[object]:
    with Image.open(io.BytesIO(data)) as image:
        return [image.mode, *image.size, sum(image.tobytes())]


def test_every_row_is_read_whole_and_as_a_stream(dataset: Path, tmp_path: Path) -> None:
    rows = [(row, members) for _, row, members in read_dataset(dataset, "train")]
    first = [members for _, members in rows[:5]]
    assert all("source1.png" not in members for members in first)
    assert any("source1.png" in members for _, members in rows)
    assert {row.rater for row, _ in rows[:5]} == {None} != {row.rater for row, _ in rows}
    found = loaded(dataset, tmp_path)
    for way in ("True", "False"):
        assert [each["key"] for each in found[way]["train"]] == [row.key for row, _ in rows]
        for each, (_, members) in zip(found[way]["train"], rows, strict=True):
            assert each["row"] == of_json(members["json"])
            expected = {name: facts(data) for name, data in members.items() if name != "json"}
            assert {name: value for name, value in each["images"].items() if value} == expected


def test_without_the_types_on_the_card_the_same_dataset_is_not_read(dataset: Path, tmp_path: Path) -> None:
    """What the types are for: it is the library's fault, and once it is mended they may go."""
    manifest = read_manifest(dataset)
    shards = tuple(shard.model_copy(update={"members": ()}) for shard in manifest.shards)
    bare = tmp_path / "bare"
    bare.mkdir()
    for shard in shards:
        os.link(dataset / shard.name, bare / shard.name)
    write_card(bare, manifest.model_copy(update={"shards": shards}))
    with pytest.raises(AssertionError):
        loaded(bare, tmp_path / "home")
