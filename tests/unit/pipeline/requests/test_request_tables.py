"""CSV and Parquet request files as spreadsheets and data frames write them: every cell read, bad rows by their line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.requests.fields import LINE_MAX_BYTES
from pipeline.requests.files import read_request_file
from pipeline.run.plan import PlannedLine
from schemas.errors import BadInput
from schemas.request import RequestLine

CANDIDATES = [{"path": "edits/a.png", "editor": "mine", "seed": 1}]
EXPECTED: dict[str, Any] = {
    "id": "a",
    "sources": ["a.png", "b.png"],
    "instruction": "Make the cup red",
    "kind": "composition",
    "candidates": CANDIDATES,
    "targets": [{"label": "cup", "operation": "recolour", "box": [1, 2, 30, 40]}],
}
CELLS = {
    "id": "a",
    "sources": json.dumps(EXPECTED["sources"]),
    "instruction": "Make the cup red",
    "kind": "composition",
    "candidates": json.dumps(CANDIDATES),
    "label": "cup",
    "operation": "recolour",
    "box": "[1, 2, 30, 40]",
    "edit_type": "",
}


def _read(path: Path) -> list[PlannedLine]:
    return list(read_request_file(path))


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_short_form_of_a_target_leaves_lists_in_other_cells_lists(tmp_path: Path, kind: str) -> None:
    line = _read(_write(tmp_path / f"r.{kind}", [CELLS]))[0]
    assert (line.line, line.fault) == (EXPECTED, None)
    RequestLine.model_validate(line.line)


def test_parquet_takes_lists_as_lists_beside_the_short_form(tmp_path: Path) -> None:
    row = EXPECTED | EXPECTED["targets"][0]
    del row["targets"]
    assert _read(_write(tmp_path / "r.parquet", [row]))[0].line == EXPECTED


def test_the_index_of_a_filtered_frame_is_no_column_of_the_request(tmp_path: Path) -> None:
    frame = pd.DataFrame([CELLS, CELLS | {"id": "b"}])
    frame[frame["id"] == "b"].to_parquet(tmp_path / "r.parquet")
    assert _read(tmp_path / "r.parquet")[0].line == EXPECTED | {"id": "b"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"targets": '[{"label": "spoon"}]'}, "targets and label, operation, box"),
        ({"source": "c.png"}, "source and sources"),
        ({"candidates": "edits/a.png"}, '[{"path": "edits/a.png"}]'),
        ({"box": "1,2,30,40"}, "[1, 2, 30, 40]"),
        ({"turns": "[" * 100 + "]" * 100}, "nested deeper"),
        ({"turns": "[NaN]"}, "NaN"),
        ({"": "0"}, "without a name"),
    ],
)
def test_cells_that_contradict_or_are_no_json_are_a_fault_with_its_remedy(
    tmp_path: Path, kind: str, more: dict[str, str], said: str
) -> None:
    bad, good = _read(_write(tmp_path / f"r.{kind}", [CELLS | more, dict.fromkeys(more, "") | CELLS | {"id": "b"}]))
    assert said in (bad.fault or "")
    assert good.line == EXPECTED | {"id": "b"}


def test_a_long_cell_is_read_and_one_beyond_the_limit_is_one_bad_row(tmp_path: Path) -> None:
    rows = [{"id": name, "source": "a.png", "instruction": "x" * n} for name, n in (("a", 200_000), ("b", 1_100_000))]
    found = _read(_write(tmp_path / "r.csv", [*rows, {"id": "c", "source": "a.png", "instruction": "x"}]))
    assert [(line.place, line.line and line.line["id"]) for line in found if not line.fault] == [
        ("r.csv:2", "a"),
        ("r.csv:4", "c"),
    ]
    assert str(LINE_MAX_BYTES) in (found[1].fault or "")


@pytest.mark.parametrize(
    "bad",
    [
        'bad,"b.png,x',
        'bad,"b"c.png,x',
        'bad,b.png,"one\ntwo',
        'bad,b.png,"x"y"',
        "bad,b.png",
        "bad,b.png,x,y,z",
        "\udce9,b.png,x",
    ],
)
def test_a_stray_quote_costs_its_own_line_and_says_which(tmp_path: Path, bad: str) -> None:
    text = f'id,source,instruction\na,a.png,"x, ""y"""\n{bad}\nc,c.png,"x\ny"\r\nd,d.png,x\n,,\n\n'
    (tmp_path / "r.csv").write_bytes(text.encode(errors="surrogateescape"))
    found = _read(tmp_path / "r.csv")
    assert [line.line["id"] for line in found if line.line] == ["a", "c", "d"]
    assert next(line for line in found if line.fault).place == "r.csv:3"
    assert found[-2].line == {"id": "c", "sources": ["c.png"], "instruction": "x\ny"}


def test_a_quote_in_the_last_line_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('id,source,instruction\na,a.png,x\nb,b.png,"never closed')
    good, bad = _read(tmp_path / "r.csv")
    assert (good.fault, bad.place, "quote" in (bad.fault or "")) == (None, "r.csv:3", True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id;source;instruction\na;a.png;x\n", "commas"),
        (b"id\tsource\tinstruction\na\ta.png\tx\n", "commas"),
        ("id,source,instruction\na,a.png,x\n".encode("utf-16"), "UTF-16"),
        ("id,source,instruction\na,a.png,x\n".encode("utf-16-le"), "UTF-16"),
        (b"ID,Source,Instruction\na,a.png,x\n", "rename 'ID' to id"),
        (b"id, source ,instruction\na,a.png,x\n", "rename ' source ' to source"),
        (b"id,source,instrution\na,a.png,x\n", "rename 'instrution' to instruction"),
        (b"id,source\na,a.png\n", "no column instruction"),
        (b"id,source,instruction,id\na,a.png,x,b\n", "two columns 'id'"),
        (b"id,source,\xe9\na,a.png,x\n", "not UTF-8"),
        (b'id,"source,instruction\na,a.png,x\n', "header"),
        (b"a,a.png,x\nb,b.png,x\n", "no column id"),
    ],
)
def test_a_header_that_cannot_be_meant_is_one_line_with_its_remedy(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(BadInput, match=r"r\.csv") as caught:
        _read(tmp_path / "r.csv")
    assert said in str(caught.value)


def test_parquet_columns_are_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rename 'ID' to id"):
        _read(_write(tmp_path / "r.parquet", [{"ID": "a", "sources": ["a.png"], "instruction": "x"}]))


def test_jsonl_in_utf_16_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(EXPECTED) + "\n", encoding="utf-16")
    with pytest.raises(BadInput, match="UTF-16"):
        _read(tmp_path / "r.jsonl")
