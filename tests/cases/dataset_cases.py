"""Datasets that are not as the pipeline writes them: a copy of a good one with its rows changed."""

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.dataset.shards import read_dataset, read_manifest, read_samples
from runtime.files import add_to_tar, sha256_of_file
from schemas.record import document_digest

Fields = dict[str, Any]
SCORES = ("background", "success", "overedit", "naturalness", "artifacts")


def rewritten(dataset: Path, out: Path, change: Callable[[Fields], None]) -> Path:
    """Writes a copy of `dataset` into `out`, the JSON of every row changed by `change`, and returns `out`."""
    manifest = read_manifest(dataset).model_dump(mode="json")
    out.mkdir(parents=True)
    for shard in manifest["shards"]:
        path = out / shard["name"]
        with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in read_samples(dataset / shard["name"]):
                row = json.loads(members["json"])
                change(row)
                for extension, data in (members | {"json": json.dumps(row).encode()}).items():
                    add_to_tar(tar, f"{key}.{extension}", data)
        shard |= {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def of_few_rows(dataset: Path, out: Path, requests: int, edits: int) -> Path:
    """A copy of `dataset` in `out` that trains on the first `edits` edits of its first `requests` requests alone.

    Held-out rows are all there. For trainings that prove how one goes on, refuses or writes, not what it learns.
    """
    manifest = read_manifest(dataset).model_dump(mode="json")
    shard, *others = sorted(manifest["shards"], key=lambda shard: (shard["split"] != "train", shard["name"]))
    others = [other for other in others if other["split"] != "train"]
    out.mkdir(parents=True)
    for other in others:
        shutil.copy(dataset / other["name"], out)
    path, taken = out / shard["name"], Counter[str]()
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for _, row, members in read_dataset(dataset, "train"):
            if taken[row.request] < edits and (row.request in taken or len(taken) < requests):
                taken[row.request] += 1
                for extension, data in members.items():
                    add_to_tar(tar, f"{row.key}.{extension}", data)
    shard |= {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    shard |= {"samples": taken.total(), "requests": len(taken)}
    (out / "manifest.json").write_text(json.dumps(manifest | {"shards": [shard, *others]}))
    return out


def forged(dataset: Path, change: Callable[[Fields], None] = lambda _: None) -> str:
    """Changes the manifest and makes all its digests fit again, those of tars, too; returns that of the manifest."""
    path = dataset / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    for shard in document["shards"]:
        data = (dataset / shard["name"]).read_bytes()
        shard |= {"size_bytes": len(data), "sha256": sha256(data).hexdigest()}
    document["digest"] = document_digest(document)
    path.write_text(json.dumps(document))
    return str(document["digest"])


def unscored(row: Fields) -> None:
    """Takes away every score."""
    row |= dict.fromkeys(SCORES) | {"aesthetics": None, "rater": None}
    for region in row["regions"]:
        region |= {"success": None, "preserve": None, "phi": None, "reward": None}


def of_many_regions(count: int) -> Callable[[Fields], None]:
    """A change that gives every row `count` regions: its first planned one again and again, under other keys."""

    def change(row: Fields) -> None:
        first = next(region for region in row["regions"] if region["status"] != "unplanned")
        row["regions"] = [first] + [{**first, "region": f"{number:016x}"} for number in range(1, count)]

    return change
