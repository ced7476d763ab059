"""Edits of the manifest and of the card."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.edits.edit import (
    CARD,
    COUNTS,
    DIGEST,
    HASHES,
    NOTHING,
    ROWS,
    Edit,
    Json,
    at,
    leaves,
    on_manifest,
    put,
    read_manifest,
    write_manifest,
)

ALONE = (NOTHING, DIGEST)
CARDS = (NOTHING, CARD)


def _value(draw: Random, document: Json) -> None:
    path = draw.choice(leaves(document))
    value = at(document, path)
    if isinstance(value, bool) or value is None:
        new: Any = not value
    elif isinstance(value, int | float):
        new = draw.choice([value + 1, value - 1, 0, -1, value * 10, float(value) + 0.5, 10**30])
    elif isinstance(value, str):
        new = draw.choice([value + "x", value[1:], value.swapcase(), ""])
    else:
        new = draw.choice([None, 0, "x", {"x": 1}])
    put(document, path, new)


def _other_type(draw: Random, document: Json) -> None:
    path = draw.choice(leaves(document))
    put(document, path, draw.choice([None, [], {}, [at(document, path)], str(at(document, path)), True]))


def _removed(draw: Random, document: Json) -> None:
    path = draw.choice(leaves(document))[: draw.randrange(1, 4)]
    del at(document, path[:-1])[path[-1]]


def _added(draw: Random, document: Json) -> None:
    draw.choice([document, document["shards"][0], document["build"], document["splits"]])["extra"] = 1


def _shard(change: Callable[[Random, Json], None]) -> Callable[[Random, Json], None]:
    def edit(draw: Random, document: Json) -> None:
        change(draw, draw.choice(document["shards"]))

    return edit


def _count(draw: Random, shard: Json) -> None:
    shard[draw.choice(["samples", "requests", "synthetic", "unscored", "size_bytes"])] += draw.choice([-1, 1])


def _types(draw: Random, shard: Json) -> None:
    shard["edit_types"] = {"x" + key: value for key, value in shard["edit_types"].items()}


def _raters(draw: Random, shard: Json) -> None:
    shard["raters"] = shard["raters"] | {"people": 1}


def _members(draw: Random, shard: Json) -> None:
    shard["members"] = draw.choice([shard["members"][1:], [*shard["members"], "x.png"], shard["members"][::-1], []])


def _hash(draw: Random, shard: Json) -> None:
    shard["sha256"] = draw.choice([shard["sha256"].upper(), "0" * 64, shard["sha256"][:-1], None])


def _name(draw: Random, shard: Json) -> None:
    name = shard["name"]
    shard["name"] = draw.choice(
        [f"../dataset/{name}", f"./{name}", f"/etc/{name}", "x.tar", "", ".", name + "\n", name.upper(), "\x00", "é"]
    )


def _split(draw: Random, shard: Json) -> None:
    shard["split"] = draw.choice([split for split in ("train", "validation", "test", "x") if split != shard["split"]])


def _total(draw: Random, document: Json) -> None:
    name = draw.choice(["rows", "requests", "unscored", "splits", "edit_types", "raters"])
    if isinstance(document[name], dict):
        key = draw.choice(sorted(document[name]))
        document[name][key] += draw.choice([-1, 1])
    else:
        document[name] += draw.choice([-1, 1])


def _synthetic(draw: Random, document: Json) -> None:
    document["synthetic"] = draw.choice(["none", "all", "some", "", None])


def _scores(draw: Random, document: Json) -> None:
    document["scores"] = draw.choice(["consensus:first", "", "people", None])


def _stage(draw: Random, document: Json) -> None:
    stage = draw.choice(document["stages"])
    stage[draw.choice(["rows_in", "kept"])] += draw.choice([-1, 1, 10])


def _shards_reordered(draw: Random, document: Json) -> None:
    draw.shuffle(document["shards"])


def _shard_doubled(draw: Random, document: Json) -> None:
    document["shards"].append(draw.choice(document["shards"]))


def _shard_left_out(draw: Random, document: Json) -> None:
    document["shards"].remove(draw.choice(document["shards"]))


def _no_shards(draw: Random, document: Json) -> None:
    document["shards"] = []


def _build(draw: Random, document: Json) -> None:
    path = draw.choice([("requests",), ("editor",), *leaves(document["build"]["config"])])
    put(document["build"]["config"], path, draw.choice([0, "x", None, 12345.5, float("nan"), "\ud800", _nested(900)]))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _when(draw: Random, document: Json) -> None:
    document[draw.choice(["created_at", "dataset"])] += draw.choice(["0", " ", "\n# other"])


def _digest(draw: Random, document: Json) -> None:
    document["digest"] = draw.choice(["0" * 64, document["digest"].upper(), document["digest"][:-1], "", None, 1])


def _card_hash(draw: Random, document: Json) -> None:
    document["card_sha256"] = draw.choice(["0" * 64, document["card_sha256"].upper(), "", None])


def _text(draw: Random, folder: Path) -> None:
    path = folder / "manifest.json"
    data = path.read_bytes()
    document = json.loads(data)
    written = [json.dumps(document).encode(), data + b"\n", json.dumps(document, indent=2, sort_keys=True).encode()]
    path.write_bytes(draw.choice(written))


def _older(draw: Random, folder: Path) -> None:
    """A manifest of the version that had no digests yet, and beside it a card that says something else."""
    document = read_manifest(folder)
    for name in ("digest", "card_sha256")[: draw.choice([0, 2])]:
        del document[name]
    write_manifest(folder, document | {"schema": "manifest/1", "scores": "people"})
    (folder / "README.md").write_text("# another card")


def _named_twice(draw: Random, folder: Path) -> None:
    path = folder / "manifest.json"
    first = draw.choice([b'"rows": 99,', b'"shards": [],', b'"digest": "0",', b'"scores": "people",'])
    path.write_bytes(b"{" + first + path.read_bytes()[1:])


def _no_json(draw: Random, folder: Path) -> None:
    path = folder / "manifest.json"
    data = path.read_bytes()
    broken = [b"", b"{}", b"[]", b"null", data[: draw.randrange(len(data))], data + b"}", b"\xff" + data, bytes(100)]
    path.write_bytes(draw.choice([*broken, b"[" * 100_000, data.decode().encode("utf-16"), b"\xef\xbb\xbf" + data]))


def _bit(name: str) -> Callable[[Random, Path], None]:
    def edit(draw: Random, folder: Path) -> None:
        path = folder / name
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)

    return edit


def _shard_gone(draw: Random, folder: Path) -> None:
    """A tar is gone, and the manifest says nothing of it any more; its totals are as they were."""
    document = read_manifest(folder)
    shard = draw.choice(document["shards"])
    (folder / shard["name"]).unlink()
    document["shards"].remove(shard)
    write_manifest(folder, document)


def _card(change: Callable[[Random, str], str]) -> Callable[[Random, Path], None]:
    def edit(draw: Random, folder: Path) -> None:
        path = folder / "README.md"
        path.write_bytes(change(draw, path.read_text()).encode())

    return edit


def _card_word(draw: Random, text: str) -> str:
    words = text.split(" ")
    words[draw.randrange(len(words))] = draw.choice(["never", "100", "", "<b>"])
    return " ".join(words)


def _card_line(draw: Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.pop(draw.randrange(len(lines)))
    return "".join(lines)


def _front_matter(draw: Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    end = lines.index("---\n", 1)
    lines.insert(draw.randrange(1, end + 1), draw.choice(["license: mit\n", "- x\n", "tags: [\n", "---\n"]))
    return "".join(lines)


def _no_front_matter(draw: Random, text: str) -> str:
    return text.split("---\n", 2)[2]


def _card_form(draw: Random, text: str) -> str:
    return draw.choice([text + "\n", text.replace("\n", "\r\n"), "\ufeff" + text, text.rstrip("\n"), ""])


def _card_gone(draw: Random, folder: Path) -> None:
    (folder / "README.md").unlink()


EDITS = (
    Edit("manifest: a value", on_manifest(_value), HASHES, ALONE),
    Edit("manifest: another type", on_manifest(_other_type), HASHES, ALONE),
    Edit("manifest: a field removed", on_manifest(_removed), HASHES, ALONE),
    Edit("manifest: a field added", on_manifest(_added), CARD, ALONE),
    Edit("manifest: a count of a tar", on_manifest(_shard(_count)), DIGEST, ALONE),
    Edit("manifest: edit types of a tar", on_manifest(_shard(_types)), DIGEST, ALONE),
    Edit("manifest: raters of a tar", on_manifest(_shard(_raters)), DIGEST, ALONE),
    Edit("manifest: members of a tar", on_manifest(_shard(_members)), DIGEST, ALONE),
    Edit("manifest: hash of a tar", on_manifest(_shard(_hash)), HASHES, ALONE),
    Edit("manifest: name of a tar", on_manifest(_shard(_name)), DIGEST, ALONE),
    Edit("manifest: split of a tar", on_manifest(_shard(_split)), DIGEST, ALONE),
    Edit("manifest: a total", on_manifest(_total), DIGEST, ALONE),
    Edit("manifest: how synthetic", on_manifest(_synthetic), DIGEST, ALONE),
    Edit("manifest: which scores", on_manifest(_scores), HASHES, ALONE),
    Edit("manifest: counts of a stage", on_manifest(_stage), HASHES, ALONE),
    Edit("manifest: tars reordered", on_manifest(_shards_reordered), HASHES, ALONE),
    Edit("manifest: a tar doubled", on_manifest(_shard_doubled), CARD, (NOTHING, DIGEST, COUNTS)),
    Edit("manifest: a tar left out", on_manifest(_shard_left_out), CARD, (NOTHING, DIGEST, COUNTS)),
    Edit("manifest: no tars", on_manifest(_no_shards), CARD, (NOTHING, DIGEST, COUNTS)),
    Edit("manifest: settings", on_manifest(_build), HASHES, ALONE),
    Edit("manifest: name or time", on_manifest(_when), HASHES, ALONE),
    Edit("manifest: digest", on_manifest(_digest), NOTHING, (NOTHING,)),
    Edit("manifest: hash of the card", on_manifest(_card_hash), DIGEST, ALONE),
    Edit("manifest: written in another way", _text, NOTHING, (NOTHING,)),
    Edit("manifest: of the version before digests", _older, -1, (NOTHING, CARD)),
    Edit("manifest: a field named twice", _named_twice, NOTHING, (NOTHING,)),
    Edit("manifest: no JSON", _no_json, NOTHING, (NOTHING,)),
    Edit("manifest: bit flipped", _bit("manifest.json"), NOTHING, (NOTHING,)),
    Edit("manifest: a tar and what it says of it gone", _shard_gone, ROWS, (NOTHING, DIGEST, COUNTS, CARD)),
    Edit("card: bit flipped", _bit("README.md"), NOTHING, (NOTHING,)),
    Edit("card: a word", _card(_card_word), COUNTS, CARDS),
    Edit("card: a line removed", _card(_card_line), COUNTS, CARDS),
    Edit("card: front matter", _card(_front_matter), COUNTS, CARDS),
    Edit("card: front matter removed", _card(_no_front_matter), COUNTS, CARDS),
    Edit("card: line ends, BOM, or emptied", _card(_card_form), COUNTS, CARDS),
    Edit("card: gone", _card_gone, CARD, (NOTHING,)),
)
