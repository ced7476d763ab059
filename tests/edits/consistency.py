"""What the maker of an edit rewrites so that the rest of the dataset agrees with it, level by level."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.dataset.card import card_text
from runtime.images import encode_labels_png, pixels_sha256
from runtime.masks import mask_box, rle_to_mask
from schemas.geometry import CocoRle
from schemas.manifest import Manifest
from schemas.record import document_digest
from tests.edits.edit import (
    CARD,
    COUNTS,
    DIGEST,
    HASHES,
    ROWS,
    Json,
    Member,
    read_manifest,
    read_tar,
    row_bytes,
    samples,
    tars,
    write_manifest,
    write_tar,
)

#: What goes wrong when one rewrites what an edit has broken: it stays as it is.
BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, OSError)


def rewrite(folder: Path, level: int) -> None:
    """Makes all that belongs to a level follow from what there is now; what is broken stays so."""
    if level >= ROWS:
        _where_possible(_rows, folder)
    if level >= COUNTS:
        _where_possible(_counts, folder)
    if level >= HASHES:
        _where_possible(_hashes, folder)
    if level >= CARD:
        _where_possible(_card, folder)
    if level >= DIGEST:
        _where_possible(_digest, folder)


def _where_possible(step: Callable[[Path], None], folder: Path) -> None:
    with suppress(tarfile.TarError, *BROKEN):
        step(folder)


def _hashes(folder: Path) -> None:
    document = read_manifest(folder)
    for shard in document["shards"]:
        path = folder / shard["name"]
        if path.is_file():
            data = path.read_bytes()
            shard |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_manifest(folder, document)


def _digest(folder: Path) -> None:
    document = read_manifest(folder)
    write_manifest(folder, document | {"digest": document_digest(document)})


def _card(folder: Path) -> None:
    """The card as the manifest would have it where the manifest changed; the hash of what there is, always."""
    document = read_manifest(folder)
    text = (folder / "README.md").read_bytes()
    if hashlib.sha256(text).hexdigest() == document["card_sha256"]:
        text = card_text(Manifest.model_validate(document)).encode()
        (folder / "README.md").write_bytes(text)
    write_manifest(folder, document | {"card_sha256": hashlib.sha256(text).hexdigest()})


def _counts(folder: Path) -> None:
    document = read_manifest(folder)
    shards = document["shards"]
    for shard in shards:
        with suppress(tarfile.TarError, *BROKEN):
            shard |= _counted(read_tar(folder / shard["name"]))
    splits = Counter[str]()
    for shard in shards:
        splits[shard["split"]] += shard["samples"]
    document |= {name: sum(shard[name] for shard in shards) for name in ("requests", "unscored")}
    document |= {"rows": splits.total(), "splits": {split: splits[split] for split in document["splits"]}}
    document |= {name: _summed(shards, name) for name in ("edit_types", "raters")}
    synthetic = sum(shard["synthetic"] for shard in shards)
    document["synthetic"] = "all" if synthetic == splits.total() else "some" if synthetic else "none"
    document["stages"][-1] |= {"rows_in": splits.total(), "kept": splits.total()}
    document["stages"][-2]["kept"] = splits.total()
    write_manifest(folder, document)


def _summed(shards: list[Json], name: str) -> dict[str, int]:
    counts = Counter[str]()
    for shard in shards:
        counts.update(shard[name])
    return dict(sorted(counts.items()))


def _counted(members: list[Member]) -> Json:
    rows = [json.loads(member.data) for member in members if member.extension == "json"]
    return {
        "samples": len(rows),
        "requests": len({row["request"] for row in rows}),
        "synthetic": sum(row["synthetic"] for row in rows),
        "edit_types": dict(sorted(Counter(row["edit_type"] for row in rows).items())),
        "raters": dict(sorted(Counter(row["rater"] for row in rows if row["rater"]).items())),
        "unscored": sum(row["rater"] is None for row in rows),
        "members": sorted({member.extension for member in members}),
    }


def _rows(folder: Path) -> None:
    for path in tars(folder):
        with suppress(tarfile.TarError, *BROKEN):
            members = read_tar(path)
            before = [member.data for member in members]
            for sample in samples(members):
                with suppress(*BROKEN):
                    _row({member.extension: member for member in sample})
            if before != [member.data for member in members]:
                write_tar(path, members)


def _row(sample: dict[str, Member]) -> None:
    row = json.loads(sample["json"].data)
    before = json.dumps(row)
    sources = [f"source{number or ''}.png" for number in range(len(row["source_names"]))]
    row["source_pixels_sha256"] = [_pixels(sample[name]) for name in sources]
    row["edited_pixels_sha256"] = _pixels(sample["edited.png"])
    row["width_px"], row["height_px"] = Image.open(io.BytesIO(sample["edited.png"].data)).size
    row["aesthetics"] = _least(row["naturalness"], row["artifacts"])
    row["background_reward"] = _reward(row["background"], row["aesthetics"])
    for region in row["regions"]:
        mask = rle_to_mask(CocoRle.model_validate(region["mask"]))
        region["area_px"] = int(mask.sum())
        box = mask_box(mask)
        region["box"] = list(box) if box else None
        region["phi"] = _least(region["success"], region["preserve"])
        region["reward"] = _reward(region["phi"], row["aesthetics"])
    if json.dumps(row) != before:
        sample["json"].data = row_bytes(row)
    _regions_picture(row, sample["regions.png"])


def _regions_picture(row: Json, member: Member) -> None:
    labels = np.zeros((row["height_px"], row["width_px"]), dtype=np.uint16)
    for number in sorted(range(len(row["regions"])), key=lambda number: -row["regions"][number]["area_px"]):
        labels[rle_to_mask(CocoRle.model_validate(row["regions"][number]["mask"]))] = number + 1
    with suppress(*BROKEN):
        if np.array_equal(np.array(Image.open(io.BytesIO(member.data))), labels):
            return
    member.data = encode_labels_png(labels)


def _pixels(member: Member) -> str:
    return pixels_sha256(np.asarray(Image.open(io.BytesIO(member.data)).convert("RGB")))


def _least(a: Any, b: Any) -> Any:
    return None if a is None or b is None else min(a, b)


def _reward(score: Any, aesthetics: Any) -> Any:
    return None if score is None or aesthetics is None else sqrt(score * aesthetics) / 25
