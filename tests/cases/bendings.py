"""Bendings of request files: what a user, an editor, a spreadsheet, a disk or a sync tool does to one place of them.

A kind takes the requests, which of them to bend and a source of chance. Kinds of fields change the record of one
request, kinds of bytes what is written of them all. `bending_files.py` bends pictures and other files.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Fields = dict[str, Any]
N = 4
FORMS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True)
class Kind:
    """One kind of bending. same: what it leaves means what it meant, so that a row of it must be the unbent row."""

    name: str
    apply: Callable[..., Any]
    same: bool = False


def picture(seed: int) -> Image.Image:
    """A photograph-like picture of 96 by 80 px."""
    rows, columns = np.mgrid[:80, :96]
    noise = np.random.default_rng(seed).integers(0, 40, (80, 96, 3))
    return Image.fromarray((np.stack([rows + 9 * seed, columns, rows + columns], axis=2) + noise).astype(np.uint8))


def requests(folder: Path) -> list[Fields]:
    """Writes a source and a candidate for each of N requests into `folder`, and returns the requests."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[Fields] = []
    for number in range(N):
        source = picture(number)
        edited = source.copy()
        edited.paste((230, 20, 20), (20, 20, 60, 60))
        source.save(folder / f"source-{number}.png")
        edited.save(folder / f"edited-{number}.png")
        target = {"label": "cup", "box": [20, 20, 60, 60]}
        fields = {"sources": [f"source-{number}.png"], "candidates": [{"path": f"edited-{number}.png"}]}
        lines.append({"id": f"r{number}", **fields, "instruction": "Make the cup red", "targets": [target]})
    return lines


def as_jsonl(lines: list[Fields]) -> bytes:
    """A line of JSON for each."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode("utf-8", "surrogatepass")


def _cells(lines: list[Fields]) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(name for line in lines for name in line))
    return names, [[_cell(line[name]) if name in line else "" for name in names] for line in lines]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def as_csv(lines: list[Fields], **options: Any) -> bytes:
    """A table as a spreadsheet writes it; lists are JSON in their cell."""
    file = io.StringIO()
    names, rows = _cells(lines)
    csv.writer(file, **options).writerows([names, *rows])
    return file.getvalue().encode("utf-8", "surrogatepass")


def as_table(lines: list[Fields]) -> pa.Table:
    """The table of Parquet, every cell a text."""
    names, rows = _cells(lines)
    rows = [[cell.encode("utf-8", "replace").decode() for cell in row] for row in rows]
    return pa.table({name: [row[index] or None for row in rows] for index, name in enumerate(names)})


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    """The file of a table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def written(lines: list[Fields], form: str) -> bytes:
    """The file of `lines` in a form."""
    return {"jsonl": as_jsonl, "csv": as_csv, "parquet": lambda given: as_parquet(as_table(given))}[form](lines)


# --- kinds of fields: (line, chance) -> None ---


def _set(*path: Any) -> Callable[[Any], Callable[[Fields, Random], None]]:
    """Sets what lies at `path` of a request."""

    def to(value: Any) -> Callable[[Fields, Random], None]:
        def change(line: Fields, chance: Random) -> None:
            there: Any = line
            for step in path[:-1]:
                there = there[step]
            there[path[-1]] = value

        return change

    return to


def _drop(name: str) -> Callable[[Fields, Random], None]:
    return lambda line, chance: line.pop(name, None) and None


def _rename(name: str, other: str) -> Callable[[Fields, Random], None]:
    def change(line: Fields, chance: Random) -> None:
        line[other] = line.pop(name)

    return change


def _swap_type(line: Fields, chance: Random) -> None:
    name = chance.choice(list(line))
    line[name] = chance.choice([None, True, 0, -1, 1.5, "", "x", [], {}, [[]], [None], {"a": 1}, 2**70])


ABSURD = (float("nan"), float("inf"), -5, 1e300, 10**30, "twenty", None, True, [20], "20", 20.0, 20.4, -0.0, 2**31)


def _absurd_number(line: Fields, chance: Random) -> None:
    line["targets"][0]["box"][chance.randrange(4)] = chance.choice(ABSURD)


PATHS = ("", ".", "..", "../source-0.png", "~/a.png", "/etc/passwd", "file:///a.png", "http://127.0.0.1:9/a.png",
         "a\x00b", "*.png", "source-0.png ", "SOURCE-0.PNG", "source-0.png/", "sub\\source-0.png", "con", "a" * 300,
         "a/" * 2000, "-", "$RUN/a.png", "%s", "{}", "\udcff.png", "requests.jsonl", "source-0.png?raw=1",
         "source%2D0.png", "a\nb.png")  # fmt: skip
TEXTS = ("", " ", "\x00", "\u202e\u200b", "cup\ud800", "e\u0301" * 40, "a" * 100_000, "=1+1", "nan", "null", "{}",
         "\r\n", "😀", "\x1b[2J", "<b>", "../x", "r1", "0", "\t", "\ufeffcup", "cup\x85cup",
         "cup\u2028cup")  # fmt: skip


def _path(line: Fields, chance: Random) -> None:
    if chance.random() < 0.5:
        line["sources"][0] = chance.choice(PATHS)
    else:
        line["candidates"][0]["path"] = chance.choice(PATHS)


def _text(line: Fields, chance: Random) -> None:
    there, name = chance.choice([(line, "id"), (line, "instruction"), (line["targets"][0], "label")])
    there[name] = chance.choice(TEXTS)


def _stray_field(line: Fields, chance: Random) -> None:
    there = chance.choice([line, line["targets"][0], line["candidates"][0]])
    there[chance.choice(["Unnamed: 0", "__index_level_0__", "notes", "", "split", "kind", "schema", "mask"])] = "x"


def _of_another(line: Fields, chance: Random) -> None:
    other = chance.randrange(N)
    line.update(chance.choice([{"id": f"r{other}"}, {"sources": [f"source-{other}.png"]},
                               {"candidates": [{"path": f"source-{other}.png"}]}]))  # fmt: skip


def _backslash(line: Fields, chance: Random) -> None:
    line["sources"] = [".\\" + line["sources"][0]]


BOX = _set("targets", 0, "box")
FIELD_KINDS = tuple(
    Kind(name, apply, same)
    for name, apply, same in (
        ("another type", _swap_type, False),
        ("an absurd number", _absurd_number, False),
        ("an absurd path", _path, False),
        ("an absurd text", _text, False),
        ("a field too many", _stray_field, False),
        ("what belongs to another", _of_another, False),
        ("a field is gone", lambda line, chance: line.pop(chance.choice(list(line))) and None, False),
        ("a misspelt field", _rename("instruction", "instrution"), False),
        ("another case of a field", _rename("sources", "Sources"), False),
        ("box reversed", BOX([60, 60, 20, 20]), False),
        ("box beyond the edge", BOX([20, 20, 960, 600]), False),
        ("box as width and height", BOX({"x": 20, "y": 20, "w": 40, "h": 40}), False),
        ("box as text", BOX("20,20,60,60"), False),
        ("box of three", BOX([20, 20, 60]), False),
        ("box in fractions", BOX([20.0, 20.0, 60.0, 60.0]), True),
        ("box of no area", BOX([20, 20, 20, 60]), False),
        ("a source twice", lambda line, chance: line["sources"].append(line["sources"][0]), False),
        ("a candidate twice", lambda line, chance: line["candidates"].append(dict(line["candidates"][0])), False),
        ("a target twice", lambda line, chance: line["targets"].append(dict(line["targets"][0])), False),
        ("a source as text", lambda line, chance: line.update(sources=line["sources"][0]), False),
        ("a candidate as text", lambda line, chance: line.update(candidates=["edited-0.png"]), False),
        ("a path with ./", lambda line, chance: line.update(sources=["./" + line["sources"][0]]), True),
        ("a path with a backslash", _backslash, False),
        ("a deep value", lambda line, chance: line.update(targets=json.loads("[" * 900 + "]" * 900)), False),
        ("a thousand targets", lambda line, chance: line.update(targets=line["targets"] * 1000), False),
        ("a million signs", _set("instruction")("make " * 200_000), False),
    )
)

# --- kinds of bytes of JSONL and CSV: (bytes, line number, chance) -> bytes ---


def _lines(change: Callable[[list[bytes], int, Random], None]) -> Callable[[bytes, int, Random], bytes]:
    def apply(data: bytes, at: int, chance: Random) -> bytes:
        lines = data.splitlines(keepends=True)
        change(lines, at + len(lines) - N, chance)
        return b"".join(lines)

    return apply


def _replaced(old: bytes, new: bytes) -> Callable[[bytes, int, Random], bytes]:
    def change(lines: list[bytes], at: int, chance: Random) -> None:
        lines[at] = lines[at].replace(old, new)

    return _lines(change)


def _of_windows(data: bytes, at: int, chance: Random) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _insert(text: bytes) -> Callable[[bytes, int, Random], bytes]:
    return _lines(lambda lines, at, chance: lines.insert(at, text))


def _conflict(lines: list[bytes], at: int, chance: Random) -> None:
    lines[at : at + 1] = [b"<<<<<<< HEAD\n", lines[at], b"=======\n", lines[at], b">>>>>>> theirs\n"]


def _cut_line(lines: list[bytes], at: int, chance: Random) -> None:
    lines[at] = lines[at][: chance.randrange(1, len(lines[at]))] + b"\n"


def _swapped(lines: list[bytes], at: int, chance: Random) -> None:
    other = chance.randrange(len(lines) - N, len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _joined(lines: list[bytes], at: int, chance: Random) -> None:
    lines[at] = lines[at].rstrip(b"\r\n") + b" "


TEXT_KINDS = (
    Kind("a byte order mark", lambda data, at, chance: b"\xef\xbb\xbf" + data, same=True),
    Kind(
        "ends of lines of Windows", lambda data, at, chance: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), True
    ),
    Kind("ends of lines of old Macs", lambda data, at, chance: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r")),
    Kind("UTF-16", lambda data, at, chance: data.decode().encode("utf-16")),
    Kind("Latin-1", _replaced(b"cup", "tasse d'été".encode("latin-1"))),
    Kind("an empty line", _insert(b"\n"), same=True),
    Kind("a line of spaces", _insert(b"   \t\n"), same=True),
    Kind("a comment", _insert(b"# from here on the second batch\n")),
    Kind("marks of a merge", _lines(_conflict)),
    Kind("a line is cut", _lines(_cut_line)),
    Kind("a line twice", _lines(lambda lines, at, chance: lines.insert(at, lines[at])), same=True),
    Kind("lines changed places", _lines(_swapped), same=True),
    Kind("two lines on one", _lines(_joined)),
    Kind("no end of the last line", lambda data, at, chance: data.rstrip(b"\r\n"), same=True),
    Kind("a comma behind", _replaced(b"\n", b",\n")),
    Kind("single quotes", _replaced(b'"', b"'")),
    Kind("curly quotes", _replaced(b'"', "”".encode())),
    Kind("a quote too many", _replaced(b"cup", b'c"up')),
    Kind("NUL bytes at the end", lambda data, at, chance: data + bytes(512), same=True),
    Kind("everything is gone", lambda data, at, chance: b""),
    Kind("as one list", lambda data, at, chance: b"[" + b",".join(data.splitlines()) + b"]"),
    Kind("a control sign", _replaced(b"cup", b"c\x1bup")),
    Kind("a field twice", _replaced(b'"id"', b'"instruction": "x", "id"')),
)

# --- kinds of bytes of any file ---


def flip(data: bytes, at: int, chance: Random) -> bytes:
    """One bit the other way."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, at: int, chance: Random) -> bytes:
    """The end is lost."""
    return data[: chance.randrange(len(data))]


def zeroed(data: bytes, at: int, chance: Random) -> bytes:
    """A block reads as zeros."""
    place = chance.randrange(len(data))
    return data[:place] + bytes(len(data[place : place + 64])) + data[place + 64 :]


def lost(data: bytes, at: int, chance: Random) -> bytes:
    """Some bytes fell out."""
    place = chance.randrange(len(data))
    return data[:place] + data[place + chance.randrange(1, 9) :]


def inserted(data: bytes, at: int, chance: Random) -> bytes:
    """Some bytes came in."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.randrange(1, 9)) + data[place:]


BYTE_KINDS = (Kind("a bit flipped", flip), Kind("the end cut off", cut), Kind("a block of zeros", zeroed),
              Kind("bytes lost", lost), Kind("bytes inserted", inserted))  # fmt: skip
