"""Request files, read line by line: JSONL, CSV, Parquet, and folders with one of them.

Read are JSONL, CSV and Parquet files of `RequestLine`s, and folders that hold a `requests.jsonl`, `.csv` or `.parquet`.
Lines go into the plan as they are; what is wrong with one becomes a reject in the first stage. Paths in a line are
relative to the file's folder and may not leave it; remote addresses are refused.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.run.plan import PlannedLine
from runtime.images import MAX_FILE_BYTES, BadImage, ImageU8, decode_image, pixel_count
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput

LINE_MAX_BYTES = 1_000_000
MAX_DEPTH = 32
TOO_LONG = f"the line is longer than {LINE_MAX_BYTES} bytes"
REQUEST_FILE_NAMES = ("requests.jsonl", "requests.csv", "requests.parquet")
#: CSV columns that hold JSON; a short form of a one-target request is written in the columns label, box and operation.
JSON_COLUMNS = ("sources", "targets", "candidates", "turns", "box")
TARGET_COLUMNS = ("label", "role", "operation", "box")


def request_file(path: Path) -> Path:
    """The request file that a user's path means: itself, or the one inside a folder. Raises: BadInput."""
    if path.is_file():
        return path
    if not path.exists():
        raise BadInput(str(path), "does not exist", "give a JSONL, CSV or Parquet file, or a folder with one")
    found = [path / name for name in REQUEST_FILE_NAMES if (path / name).is_file()]
    if len(found) != 1:
        fault = "has no request file" if not found else "has more than one request file"
        raise BadInput(str(path), fault, f"put one of {', '.join(REQUEST_FILE_NAMES)} in it")
    return found[0]


def read_request_file(path: Path) -> Iterator[PlannedLine]:
    """The lines of a request file, bad ones with their fault. Raises: BadInput where the file as a whole is wrong."""
    readers = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(str(path), "is of no known kind", f"give one of {', '.join(readers)}")
    root, name = str(path.resolve().parent), path.name.encode(errors="replace").decode()
    empty = True
    for number, line, fault in reader(path):
        empty = False
        yield PlannedLine(place=f"{name}:{number}", root=root, line=line, fault=fault)
    if empty:
        raise BadInput(str(path), "has no requests", "write one request per line")


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_MAX_BYTES + 1):
            number += 1
            if len(raw) > LINE_MAX_BYTES:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LINE_MAX_BYTES)
                yield number, None, TOO_LONG
            elif raw.strip():
                yield number, *_parse_line(raw)


def _parse_line(raw: bytes | str) -> tuple[dict[str, Any] | None, str | None]:
    try:
        line = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"[:200]
    if not isinstance(line, dict):
        return None, "not a JSON object"
    return (line, None) if _depth_within(line, MAX_DEPTH) else (None, f"nested deeper than {MAX_DEPTH}")


def _depth_within(value: Any, depth: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_depth_within(part, depth - 1) for part in parts)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for row in rows:
            yield rows.line_num, *_csv_line(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(str(path), f"is not CSV in UTF-8: {error}", "mend the file") from None


def _csv_line(row: dict[Any, Any]) -> tuple[dict[str, Any] | None, str | None]:
    if None in row or None in row.values():
        return None, "has another number of cells than the header"
    cells = {name: cell for name, cell in row.items() if cell != ""}
    target = {name: cells.pop(name) for name in TARGET_COLUMNS if name in cells}
    if "source" in cells:
        cells["sources"] = [cells.pop("source")]
    line, fault = _with_json_cells(cells)
    if fault or not target:
        return line, fault
    target, fault = _with_json_cells(target)
    return (None, fault) if fault else (cells | {"targets": [target]}, None)


def _with_json_cells(cells: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """`cells` with the JSON in them read; `sources` may be one plain path."""
    read = dict(cells)
    for name in JSON_COLUMNS:
        cell = cells.get(name)
        if not isinstance(cell, str):
            continue
        if name == "sources" and not cell.lstrip().startswith("["):
            read[name] = [cell]
            continue
        try:
            read[name] = json.loads(cell)
        except (ValueError, RecursionError) as error:
            return {}, f"the cell {name} is not JSON: {error}"[:200]
    return read, None


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                cells, fault = _with_json_cells(_without_nulls(row))
                text = "" if fault else json.dumps(cells, default=str)
                fault = fault or (TOO_LONG if len(text) > LINE_MAX_BYTES else None)
                yield number, *((None, fault) if fault else _parse_line(text))
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        if is_out_of_memory(error):
            raise
        raise BadInput(str(path), f"is not Parquet: {error}"[:200], "mend the file") from None


def _without_nulls(value: Any) -> Any:
    """Parquet gives every struct all of its fields; those that are null were not written."""
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value


def read_outside_image(root: Path, path: str) -> ImageU8:
    """The image at `path` below `root`, HWC uint8 RGB.

    Raises: BadImage with reason `remote_refused`, `path_outside`, `missing_file`, or one of `decode_image`;
    MemoryError.
    """
    file = _outside_file(root, path)
    try:
        return decode_image(file.read_bytes())
    except OSError as error:
        if is_out_of_memory(error):
            raise MemoryError(path) from None
        raise BadImage("missing_file", f"{type(error).__name__}") from None


def outside_pixels(root: Path, path: str) -> int:
    """How many pixels the image at `path` below `root` has, by its header; 0 where it cannot be used."""
    try:
        with _outside_file(root, path).open("rb") as file:
            return pixel_count(file)
    except (BadImage, OSError):
        return 0


def _outside_file(root: Path, path: str) -> Path:
    """The file at `path` below `root`. Raises: BadImage where there is none that may be read."""
    if "://" in path:
        raise BadImage("remote_refused", "remote sources are off; copy the file into the folder")
    try:
        file = (root / path).resolve()
        inside = file.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise BadImage("missing_file", f"{type(error).__name__}") from None
    if not inside:
        raise BadImage("path_outside", "the path leaves the request file's folder")
    try:
        if not file.is_file():
            raise BadImage("missing_file", "no such file")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadImage("too_large", f"the file has {file.stat().st_size} bytes")
    except OSError as error:
        raise BadImage("missing_file", f"{type(error).__name__}") from None
    return file
