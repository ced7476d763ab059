"""Request files that are tables, CSV and Parquet, row by row.

A row that cannot be read is a fault with its line, and the rest goes on: of a CSV row that a stray quote makes swallow
those after it, the line with the quote alone is lost.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.requests.fields import LINE_MAX_BYTES, NOT_UTF8, TOO_LONG, ReadLine, check_columns, fields_of_cells
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput

_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: How pandas names the index of a frame that it writes into Parquet.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def check_not_utf16(path: Path) -> None:
    """Raises: BadInput for text in UTF-16, as Excel's "Unicode text" and PowerShell write it."""
    with path.open("rb") as file:
        begin = file.read(200)
    if begin.startswith(_BYTE_ORDER_MARKS) or 3 * begin.count(0) > len(begin):
        raise BadInput(str(path), "is UTF-16, not text in UTF-8", "save it as UTF-8")


def read_csv(path: Path) -> Iterator[tuple[int, *ReadLine]]:
    """(line number, fields, fault) of each row that has cells. Raises: BadInput where the header fits no request."""
    check_not_utf16(path)
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    header, start = _header(path, lines)
    while start < len(lines):
        cells, fault, taken = _record(lines, start)
        fault = fault or _other_width(cells, header)
        if fault:
            yield start + 1, None, fault
        elif any(cells):
            yield start + 1, *fields_of_cells(_by_name(header, cells))
        start += 1 if fault else taken


def _header(path: Path, lines: list[str]) -> tuple[list[str], int]:
    """The names of the columns, and the index of the line after them; ([], 0) of an empty file. Raises: BadInput."""
    start = next((index for index, line in enumerate(lines) if line.strip()), None)
    if start is None:
        return [], len(lines)
    header, fault, taken = _record(lines, start)
    if fault:
        raise BadInput(f"{path}:{start + 1}", f"its header {fault}", "name the columns in it, as id,source,instruction")
    check_columns(str(path), header)
    return header, start + taken


def _record(lines: list[str], start: int) -> tuple[list[str], str | None, int]:
    """(cells, fault, lines taken) of the record that begins at `lines[start]`; no longer than a line may be."""
    csv.field_size_limit(LINE_MAX_BYTES)  # of the process; the reader has no limit of its own
    taken = list[str]()
    try:
        cells = next(csv.reader(_while_short(lines, start, taken), strict=True))
    except csv.Error as error:
        return [], _csv_fault(str(error), sum(map(len, taken))), len(taken)
    return cells, _text_fault(cells), len(taken)


def _while_short(lines: list[str], start: int, taken: list[str]) -> Iterator[str]:
    """The lines from `start`, put into `taken` too, until they are longer than a line may be."""
    chars = 0
    for index in range(start, len(lines)):
        chars += len(lines[index])
        taken.append(lines[index])
        yield lines[index]
        if chars > LINE_MAX_BYTES:
            return


def _csv_fault(error: str, chars: int) -> str:
    if "field larger" in error or chars > LINE_MAX_BYTES:
        return f'{TOO_LONG}, or has a quote (") that is not closed'
    return f'has a quote (") that does not enclose its cell, or is not closed: {error}; write a quote in a cell twice'


def _text_fault(cells: list[str]) -> str | None:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return NOT_UTF8
    return None


def _other_width(cells: list[str], header: list[str]) -> str | None:
    if not any(cells) or len(cells) == len(header):
        return None
    return f"has {len(cells)} cells, the header {len(header)}; put quotes around a cell that holds commas"


def _by_name(header: list[str], cells: list[str]) -> dict[str, Any]:
    """The cells by their columns; of columns without a name the first that is not empty."""
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        row[name] = row.get(name) or cell
    return row


def read_parquet(path: Path) -> Iterator[tuple[int, *ReadLine]]:
    """(row number, fields, fault) of each row. Raises: BadInput where the file is no Parquet of requests."""
    try:
        file = pq.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if not _PANDAS_INDEX.fullmatch(name)]
        check_columns(str(path), columns)
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, *fields_of_cells(_without_nulls(row))
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
