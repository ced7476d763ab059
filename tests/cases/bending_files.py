"""Bendings of tables, pictures and of any file: what spreadsheets, cameras, sync tools and disks do to one of them."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.cases.bendings import BYTE_KINDS, Fields, Kind, as_csv, as_parquet, as_table

# --- kinds of CSV: (lines, which, chance) -> bytes ---


def _csv(change: Callable[[list[str]], None], same: bool = False) -> Callable[[list[Fields], int, Random], bytes]:
    def apply(lines: list[Fields], at: int, chance: Random) -> bytes:
        rows = as_csv(lines).decode().splitlines()
        bent = [rows[0], rows[at + 1]]
        change(bent)
        rows[0], rows[at + 1] = bent
        return "\r\n".join(rows).encode() + b"\r\n"

    return apply


def _header(change: Callable[[str], str]) -> Callable[[list[str]], None]:
    def apply(rows: list[str]) -> None:
        rows[0] = change(rows[0])

    return apply


def _row(change: Callable[[str], str]) -> Callable[[list[str]], None]:
    def apply(rows: list[str]) -> None:
        rows[1] = change(rows[1])

    return apply


CSV_KINDS = (
    Kind("semicolons", lambda lines, at, chance: as_csv(lines, delimiter=";")),
    Kind("tabs", lambda lines, at, chance: as_csv(lines, delimiter="\t")),
    Kind("everything in quotes", lambda lines, at, chance: as_csv(lines, quoting=1), same=True),
    Kind("sep= in front", lambda lines, at, chance: b"sep=,\r\n" + as_csv(lines)),
    Kind("header in capitals", _csv(_header(str.upper))),
    Kind("header with spaces", _csv(_header(lambda text: text.replace(",", ", ")))),
    Kind("a column without a name", _csv(_header(lambda text: text + ","))),
    Kind("a column twice", _csv(_header(lambda text: text + ",id"))),
    Kind("a cell too many", _csv(_row(lambda text: text + ",x"))),
    Kind("a cell too few", _csv(_row(lambda text: text.rpartition(",")[0]))),
    Kind("empty cells behind", _csv(_row(lambda text: text + ",,,"))),
    Kind("only commas", lambda lines, at, chance: as_csv(lines) + b",,,,\r\n", same=True),
    Kind("a quote left open", _csv(_row(lambda text: '"' + text))),
    Kind("no header", lambda lines, at, chance: as_csv(lines).partition(b"\r\n")[2]),
    Kind("header alone", lambda lines, at, chance: as_csv(lines).partition(b"\r\n")[0] + b"\r\n"),
    Kind("header twice", lambda lines, at, chance: as_csv(lines).partition(b"\r\n")[0] + b"\r\n" + as_csv(lines)),
    Kind("a date", _csv(_row(lambda text: text.replace("20, 20", "20-May")))),
    Kind("decimal commas", _csv(_row(lambda text: text.replace("20, 20, 60, 60", "20,0, 20,0, 60,0, 60,0")))),
    Kind("a formula", _csv(_row(lambda text: text.replace("Make the cup red", "=HYPERLINK(1)")))),
)

# --- kinds of Parquet: (table, which, chance) -> bytes ---


def _column(name: str, values: Callable[[list[Any], int], pa.Array]) -> Callable[[pa.Table, int, Random], bytes]:
    def apply(table: pa.Table, at: int, chance: Random) -> bytes:
        array = values(table[name].to_pylist(), at)
        return as_parquet(table.set_column(table.column_names.index(name), name, array))

    return apply


def _null(values: list[Any], at: int) -> pa.Array:
    return pa.array([None if index == at else value for index, value in enumerate(values)])


def _loads(values: list[Any], at: int) -> pa.Array:
    return pa.array([json.loads(value) for value in values])


PARQUET_KINDS = (
    Kind("numbers as ids", _column("id", lambda values, at: pa.array(range(len(values))))),
    Kind("an id is null", _column("id", _null)),
    Kind("a source is null", _column("sources", _null)),
    Kind("targets null", _column("targets", _null)),
    Kind("lists as lists", _column("sources", _loads), same=True),
    Kind("structs as structs", _column("targets", _loads), same=True),
    Kind("candidates as structs", _column("candidates", _loads), same=True),
    Kind("bytes as text", _column("instruction", lambda values, at: pa.array([v.encode() for v in values]))),
    Kind("a dictionary", _column("instruction", lambda v, at: pa.array(v).dictionary_encode()), same=True),
    Kind("large strings", _column("id", lambda v, at: pa.array(v, pa.large_string())), same=True),
    Kind("string views", _column("id", lambda v, at: pa.array(v, pa.string_view())), same=True),
    Kind("a column of nulls", _column("targets", lambda v, at: pa.nulls(len(v)))),
    Kind("times", _column("instruction", lambda v, at: pa.array([0] * len(v), pa.timestamp("us")))),
    Kind(
        "a column is gone", lambda table, at, chance: as_parquet(table.drop_columns(chance.choice(table.column_names)))
    ),
    Kind(
        "an index of pandas",
        lambda t, at, chance: as_parquet(t.append_column("__index_level_0__", pa.array(range(len(t))))),
    ),
    Kind("small row groups", lambda t, at, chance: as_parquet(t, row_group_size=1), same=True),
    Kind("another compression", lambda t, at, chance: as_parquet(t, compression="gzip"), same=True),
    Kind("an old version", lambda t, at, chance: as_parquet(t, version="1.0", use_dictionary=False), same=True),
    Kind("no rows", lambda t, at, chance: as_parquet(t.slice(0, 0))),
    Kind("a row twice", lambda t, at, chance: as_parquet(pa.concat_tables([t, t.slice(at, 1)])), same=True),
)

# --- kinds of pictures: (bytes, which, chance) -> bytes ---


def _saved(change: Callable[[Image.Image], Image.Image], **options: Any) -> Callable[[bytes, int, Random], bytes]:
    def apply(data: bytes, at: int, chance: Random) -> bytes:
        sink = io.BytesIO()
        change(Image.open(io.BytesIO(data))).save(sink, **({"format": "PNG"} | options))
        return sink.getvalue()

    return apply


def _animated(data: bytes, at: int, chance: Random) -> bytes:
    image, sink = Image.open(io.BytesIO(data)), io.BytesIO()
    image.save(sink, chance.choice(["PNG", "GIF", "TIFF"]), save_all=True, append_images=[image.rotate(180)])
    return sink.getvalue()


def _huge(data: bytes, at: int, chance: Random) -> bytes:
    return data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:]


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PICTURE_KINDS = (
    Kind("as JPEG", _saved(lambda image: image, format="JPEG")),
    Kind("as WebP without loss", _saved(lambda image: image, format="WEBP", lossless=True), same=False),
    Kind("as BMP", _saved(lambda image: image, format="BMP")),
    Kind("as GIF", _saved(lambda image: image, format="GIF")),
    Kind("as TIFF", _saved(lambda image: image, format="TIFF")),
    Kind("as CMYK", _saved(lambda image: image.convert("CMYK"), format="JPEG")),
    Kind("gray", _saved(lambda image: image.convert("L"))),
    Kind("black and white", _saved(lambda image: image.convert("1"))),
    Kind("16 bits", _saved(lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257))),
    Kind("with alpha", _saved(lambda image: image.convert("RGBA"))),
    Kind("clear", _saved(lambda image: Image.new("RGBA", image.size))),
    Kind("a palette", _saved(lambda image: image.quantize(16))),
    Kind("turned by EXIF", _saved(lambda image: image, exif=_turned())),
    Kind("a broken profile", _saved(lambda image: image, icc_profile=b"\x00" * 40)),
    Kind("a profile of rubbish", _saved(lambda image: image, icc_profile=Random(7).randbytes(200))),
    Kind("another size", _saved(lambda image: image.resize((50, 40)))),
    Kind("one pixel", _saved(lambda image: image.resize((1, 1)))),
    Kind("a strip", _saved(lambda image: image.resize((4000, 1)))),
    Kind("plain", _saved(lambda image: Image.new("RGB", image.size, (9, 9, 9)))),
    Kind("several frames", _animated),
    Kind("a size that is a lie", _huge),
    Kind("a page instead", lambda data, at, chance: b"<!DOCTYPE html><title>404</title>"),
    Kind(
        "a pointer of LFS",
        lambda data, at, chance: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    ),
    Kind("a drawing", lambda data, at, chance: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    Kind("more behind the end", lambda data, at, chance: data + chance.randbytes(99), same=False),
    Kind("nothing", lambda data, at, chance: b""),
)

# --- kinds of files: (path, chance) -> None ---


def _moved_away(path: Path, chance: Random) -> None:
    path.rename(path.with_name(path.stem + " (1)" + path.suffix))


def _into_link(path: Path, chance: Random) -> None:
    path.symlink_to(path.rename(path.with_name("kept-" + path.name)).name)


def _folder(path: Path, chance: Random) -> None:
    path.unlink()
    path.mkdir()


def _dead_link(path: Path, chance: Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _loop(path: Path, chance: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _pipe(path: Path, chance: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _conflicted(path: Path, chance: Random) -> None:
    shutil.copy(path, path.with_name(f"{path.stem} (conflicted copy){path.suffix}"))


def _other(path: Path, chance: Random) -> None:
    others = sorted(other for other in path.parent.iterdir() if other.suffix == path.suffix and other.is_file())
    path.write_bytes(chance.choice(others).read_bytes())


def stray(path: Path, chance: Random) -> None:
    """A file that another program leaves beside `path`."""
    names = (".DS_Store", "Thumbs.db", "desktop.ini", f"~${path.name}", f".{path.name}.swp", f"{path.name}~",
             f"._{path.name}", f"{path.name}.bak", f".tmp-{path.name}", ".nfs0001", "lost+found")  # fmt: skip
    path.with_name(chance.choice(names)).write_bytes(b"\x00\x01stray")


def in_bytes(kind: Kind) -> Kind:
    """The kind of files that bends the bytes of one."""

    def apply(path: Path, chance: Random) -> None:
        path.write_bytes(kind.apply(path.read_bytes() or b"\x00", 0, chance))

    return Kind(kind.name, apply, kind.same)


FILE_KINDS = (
    Kind("deleted", lambda path, chance: path.unlink()),
    Kind("moved away", _moved_away),
    Kind("a link to itself moved", _into_link),
    Kind("a dead link", _dead_link),
    Kind("a link to itself", _loop),
    Kind("a folder instead", _folder),
    Kind("a pipe instead", _pipe),
    Kind("another file of its kind", _other),
    Kind("a conflicted copy", _conflicted, same=True),
    Kind("a stray file", stray, same=True),
    Kind("emptied", lambda path, chance: path.write_bytes(b"")),
    Kind("older than the rest", lambda path, chance: os.utime(path, (0, 0)), same=True),
    *(in_bytes(kind) for kind in BYTE_KINDS),
)


def table_of(lines: list[Fields]) -> pa.Table:
    """The table that kinds of Parquet bend."""
    return as_table(lines)
