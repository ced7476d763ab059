"""The fields of a request line from its text: JSON of a bounded length and depth, or the cells of a table's row.

In a table lists are JSON in their cell, and an empty cell is a field that is not given. `source` is one path; `label`
and the other `TARGET_COLUMNS` make the one target of a request.
"""

import json
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from schemas.errors import BadInput, printable
from schemas.request import RequestLine

LINE_MAX_BYTES = 1_000_000
MAX_DEPTH = 32
TOO_LONG = f"the line is longer than {LINE_MAX_BYTES} bytes"
NOT_UTF8 = "is not UTF-8 text; save the file as UTF-8"
#: A line's fields as they came, or None and the fault that kept them from being read.
ReadLine = tuple[dict[str, Any] | None, str | None]

#: Cells that hold JSON, each with an example of what to write.
JSON_CELLS = {
    "sources": '["a.png", "b.png"]',
    "targets": '[{"label": "cup", "box": [1, 2, 30, 40]}]',
    "candidates": '[{"path": "edits/a.png"}]',
    "turns": '["Make it red", "Remove the cup"]',
    "box": "[1, 2, 30, 40]",
    "destination": "[1, 2, 30, 40]",
    "parameters": '{"color": "red"}',
}
TARGET_COLUMNS = ("label", "role", "operation", "parameters", "box", "destination")
#: One column of each at least: no request does without.
REQUIRED = (("id",), ("source", "sources"), ("instruction",))
COLUMNS = (*RequestLine.model_fields, "source", *TARGET_COLUMNS)
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def fields_of_text(text: bytes | str) -> ReadLine:
    """The fields in a line of JSON."""
    try:
        line = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return None, NOT_UTF8
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


def fields_of_cells(row: dict[str, Any]) -> ReadLine:
    """The fields in a row of a table, by its columns' names; cells that are None or empty are not given."""
    given = {name: cell for name, cell in row.items() if cell is not None and cell != ""}
    target = [name for name in TARGET_COLUMNS if name in given]
    if fault := _contradiction(given, target):
        return None, fault
    try:
        fields = {name: _value(name, cell) for name, cell in given.items()}
    except (ValueError, RecursionError) as error:
        return None, str(error)[:200]
    if "source" in fields:
        fields["sources"] = [fields.pop("source")]
    if target:
        fields["targets"] = [{name: fields.pop(name) for name in target}]
    text = json.dumps(fields, default=str)
    return (None, TOO_LONG) if len(text) > LINE_MAX_BYTES else fields_of_text(text)


def _contradiction(given: dict[str, Any], target: Sequence[str]) -> str | None:
    if "source" in given and "sources" in given:
        return "has cells in source and sources; give one of them"
    if target and "targets" in given:
        return f"has cells in targets and {', '.join(target)}; give one or the other"
    if "" in given:
        cell = printable(str(given[""]))[:40]
        return f"has {cell!r} in a column without a name; name or remove it (pandas: index=False)"
    return None


def _value(name: str, cell: Any) -> Any:
    """What a cell says; `sources` may be one plain path. Raises: ValueError with the fault and an example."""
    if name not in JSON_CELLS or not isinstance(cell, str):
        return cell
    if name == "sources" and not cell.lstrip().startswith("["):
        return [cell]
    try:
        return json.loads(cell, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        fault = f"the cell {name} is not JSON: {error}"[:120]
        raise ValueError(f"{fault}; write it as {JSON_CELLS[name]}") from None


def check_columns(thing: str, columns: Sequence[str]) -> None:
    """Raises: BadInput, with what to rename, where every row lacks a field that no request does without."""
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise BadInput(thing, f"has two columns {twice[0]!r}", "rename or remove one of them")
    missing = [names for names in REQUIRED if not set(names) & set(columns)]
    if not missing:
        return
    if len(columns) == 1 and (found := next((sign for sign in _OTHER_SEPARATORS if sign in columns[0]), None)):
        fault = f"separates its cells by {_OTHER_SEPARATORS[found]}"
        raise BadInput(thing, fault, "save it as CSV with commas between the cells")
    fault = f"has no column {' or '.join(missing[0])}; its columns are {', '.join(map(repr, columns))}"[:300]
    raise BadInput(thing, fault, _renaming(columns, missing[0]))


def _renaming(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """What to rename to one of the `wanted` columns; without a likely one, that a header is needed."""
    plain = {name.strip().casefold(): name for name in columns if name not in COLUMNS}
    for name in wanted:
        if near := get_close_matches(name, plain, n=1, cutoff=0.8):
            return f"rename {plain[near[0]]!r} to {name}"
    return f"name the columns in the first line, as {', '.join(names[0] for names in REQUIRED)}"
