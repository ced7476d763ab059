"""What an edit is, and the tars, rows and documents that edits change."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Change = Callable[[Random, Path], None]
Json = dict[str, Any]

#: How much of what follows from an edit its maker rewrites, too; each level does what those before it do.
LEVELS = ("nothing", "hashes of tars", "and the digest", "and what a row says of itself", "and counts", "and the card")
NOTHING, HASHES, DIGEST, ROWS, COUNTS, CARD = range(6)


@dataclass(frozen=True)
class Edit:
    """A kind of edit.

    `change` edits a dataset folder. Up to the level `until` of rewriting, `verify` must find it without `--expect`:
    something left in the dataset contradicts it. `levels` are those that it is tried at.
    """

    name: str
    change: Change
    until: int = HASHES
    levels: tuple[int, ...] = (NOTHING, HASHES, DIGEST, ROWS, COUNTS, CARD)


@dataclass
class Member:
    """A member of a tar, its header and its bytes."""

    info: tarfile.TarInfo
    data: bytes

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def key(self) -> str:
        """The sample that it belongs to."""
        return self.name.split(".")[0]

    @property
    def extension(self) -> str:
        return self.name.partition(".")[2]

    def named(self, name: str) -> "Member":
        """The same bytes under another name."""
        return plain_member(name, self.data)


def plain_member(name: str, data: bytes) -> Member:
    """A member with the header that the members of a dataset have."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    return Member(info, data)


def read_tar(path: Path) -> list[Member]:
    """All members. Raises: tarfile.TarError, OSError where it is none."""
    with tarfile.open(path) as tar:
        return [Member(info, _data(tar, info)) for info in tar]


def _data(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return file.read() if file else b""


def write_tar(path: Path, members: list[Member], form: int = tarfile.USTAR_FORMAT) -> None:
    """Writes all members anew."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for member in members:
            member.info.size = len(member.data) if member.info.isreg() else 0
            tar.addfile(member.info, io.BytesIO(member.data))
    path.write_bytes(made.getvalue())


def tars(folder: Path) -> list[Path]:
    """The dataset's tars in the order of their names."""
    return sorted(folder.glob("*.tar"))


def a_tar(draw: Random, folder: Path) -> Path:
    """One of the tars."""
    return draw.choice(tars(folder))


def two_tars(draw: Random, folder: Path, same_split: bool) -> tuple[Path, Path]:
    """Two tars of the same split, or of different ones."""
    pairs = [(a, b) for a in tars(folder) for b in tars(folder) if a != b and same_split == (_split(a) == _split(b))]
    return draw.choice(pairs)


def _split(path: Path) -> str:
    return path.name.split("-")[0]


def samples(members: list[Member]) -> list[list[Member]]:
    """The members of each sample, in their order."""
    keys = dict.fromkeys(member.key for member in members)
    return [[member for member in members if member.key == key] for key in keys]


def on_members(change: Callable[[Random, list[Member]], list[Member]]) -> Change:
    """An edit of the list of members of one tar."""

    def edit(draw: Random, folder: Path) -> None:
        path = a_tar(draw, folder)
        write_tar(path, change(draw, read_tar(path)))

    return edit


def on_member(end: str, change: Callable[[Random, bytes], bytes]) -> Change:
    """An edit of the bytes of one member whose name ends so."""

    def edit(draw: Random, folder: Path) -> None:
        path = a_tar(draw, folder)
        members = read_tar(path)
        member = draw.choice([member for member in members if member.name.endswith(end)])
        member.data = change(draw, member.data)
        write_tar(path, members)

    return edit


def on_row(change: Callable[[Random, Json], None], of: Callable[[Json], object] = bool) -> Change:
    """An edit of one row's JSON, written as the product writes it; `of` says which rows can be edited so."""

    def edit(draw: Random, folder: Path) -> None:
        found = [(path, read_tar(path)) for path in tars(folder)]
        rows = [(path, members, one) for path, members in found for one in members if one.extension == "json"]
        path, members, member = draw.choice([entry for entry in rows if of(json.loads(entry[2].data))])
        row = json.loads(member.data)
        change(draw, row)
        member.data = row_bytes(row)
        write_tar(path, members)

    return edit


def on_manifest(change: Callable[[Random, Json], None]) -> Change:
    """An edit of the manifest, written as the product writes it."""

    def edit(draw: Random, folder: Path) -> None:
        document = read_manifest(folder)
        change(draw, document)
        write_manifest(folder, document)

    return edit


def row_bytes(row: Json) -> bytes:
    """A row as the product writes it, also one that the product would never write."""
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(errors="surrogatepass")


def read_manifest(folder: Path) -> Json:
    """The manifest as it is. Raises: ValueError, OSError."""
    document = json.loads((folder / "manifest.json").read_bytes())
    if not isinstance(document, dict):
        raise ValueError("the manifest is no object")
    return document


def write_manifest(folder: Path, document: Json) -> None:
    """Writes the manifest as the product does."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if "\ud800" in text:
        text = json.dumps(document, indent=1)
    (folder / "manifest.json").write_text(text)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each plain value of a document is."""
    if isinstance(value, dict) and value:
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for key, one in enumerate(value) for leaf in leaves(one, (*path, key))]
    return [path]


def at(document: Any, path: tuple[Any, ...]) -> Any:
    """What lies at a place of a document."""
    for key in path:
        document = document[key]
    return document


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    """Puts a value at a place of a document."""
    at(document, path[:-1])[path[-1]] = value
