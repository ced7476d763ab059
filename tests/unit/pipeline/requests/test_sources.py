"""Request files as users write them, and the plan that they are cut into."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.requests.fields import LINE_MAX_BYTES
from pipeline.requests.files import read_outside_image, read_request_file, request_file
from pipeline.requests.lines import parse_line
from pipeline.run.plan import PlannedLine, read_plan, scene_lines, write_plan
from runtime.images import BadImage
from schemas.errors import BadInput

LINE = {
    "id": "a",
    "sources": ["a.png"],
    "instruction": "Make the cup red",
    "targets": [{"label": "cup", "box": [1, 2, 30, 40]}],
}


def _read(path: Path) -> list[PlannedLine]:
    return list(read_request_file(path))


def test_jsonl_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(LINE) + "\n\n")
    (tmp_path / "r.csv").write_text('id,source,instruction,label,box\na,a.png,Make the cup red,cup,"[1, 2, 30, 40]"\n')
    pd.DataFrame([LINE]).to_parquet(tmp_path / "r.parquet")
    assert [[line.line for line in _read(tmp_path / f"r.{kind}")] for kind in ("jsonl", "csv", "parquet")] == [
        [LINE]
    ] * 3


def test_a_folder_means_the_request_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text("{}\n")
    assert request_file(tmp_path) == tmp_path / "requests.jsonl"
    (tmp_path / "requests.csv").write_text("id\n")
    with pytest.raises(BadInput, match="more than one"):
        request_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("r.jsonl", b"", "no requests"),
        ("r.xml", b"<a/>", "no known kind"),
        ("r.csv", b"\xff\xfe\x00", "UTF-16"),
        ("r.parquet", b"PAR1 no", "not Parquet"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_one_error(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=fault):
        _read(tmp_path / name)


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        request_file(tmp_path / "none.jsonl")


def test_bad_lines_keep_their_place_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [b"{", b"[1]", b'{"id": NaN}', b"\xff\xfe", b"[" * 50_000, b'{"id": "' + b"x" * LINE_MAX_BYTES + b'"}']
    (tmp_path / "r.jsonl").write_bytes(b"\n".join([*lines, json.dumps(LINE).encode()]))
    found = _read(tmp_path / "r.jsonl")
    assert [line.place for line in found] == [f"r.jsonl:{number}" for number in range(1, 8)]
    assert all(line.fault and line.line is None for line in found[:6])
    assert found[6].line == LINE


def test_a_plain_path_and_json_in_cells_are_taken(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,sources,instruction\na,photos/cat.png,x\n")
    cells = [{"id": "a", "sources": "photos/cat.png", "instruction": "x"}]
    pd.DataFrame(cells).to_parquet(tmp_path / "r.parquet")
    expected = {"id": "a", "sources": ["photos/cat.png"], "instruction": "x"}
    assert [line.line for kind in ("csv", "parquet") for line in _read(tmp_path / f"r.{kind}")] == [expected] * 2
    (tmp_path / "bad.csv").write_text("id,source,instruction,targets\na,a.png,x,cup\n")
    assert "the cell targets is not JSON" in (_read(tmp_path / "bad.csv")[0].fault or "")


@pytest.mark.parametrize("row", ["a,a.png", 'a,a.png,x,cup,"[1,"', "a,a.png,x,cup,1,too many"])
def test_a_bad_csv_row_is_a_fault_of_its_own(tmp_path: Path, row: str) -> None:
    (tmp_path / "r.csv").write_text(f"id,source,instruction,label,box\n{row}\nb,b.png,y,cup,\n")
    bad, good = _read(tmp_path / "r.csv")
    assert bad.fault
    assert good.line == {"id": "b", "sources": ["b.png"], "instruction": "y", "targets": [{"label": "cup"}]}


def test_the_plan_cuts_parts_within_sources_and_marks_repeated_ids(tmp_path: Path) -> None:
    lines = [PlannedLine(place=f"r:{n}", line={"id": name}) for n, name in enumerate("abcad")]
    assert write_plan(tmp_path, [iter(lines), scene_lines(7, 2, 64), scene_lines(8, 1, 64, renders=2)], 2) == 5
    parts = [list(read_plan(tmp_path / "plan" / f"part-{part:05d}.jsonl")) for part in range(5)]
    assert [len(part) for part in parts] == [2, 2, 1, 2, 2]
    assert [line.duplicate_of for part in parts[:3] for line in part] == [None, None, None, "r:0", None]
    assert [line.scene for part in parts[3:] for line in part] == [
        (7, 0, 64, 0),
        (7, 1, 64, 0),
        (8, 0, 64, 0),
        (8, 0, 64, 1),
    ]
    assert parts[0][0] == lines[0]


@pytest.mark.parametrize("name", [None, 7, [], {}])
def test_an_id_that_is_no_text_does_not_stop_the_plan(tmp_path: Path, name: Any) -> None:
    assert write_plan(tmp_path, [iter([PlannedLine(place="r:1", line={"id": name})] * 2)], 8) == 1


def test_a_plan_holds_nothing_of_an_attempt_that_a_bad_file_ended(tmp_path: Path) -> None:
    def bad() -> Iterator[PlannedLine]:
        yield from (PlannedLine(place=f"r:{n}", line={"id": str(n)}) for n in range(4))
        raise BadInput("r", "is bad", "mend it")

    with pytest.raises(BadInput):
        write_plan(tmp_path, [bad()], 1)
    assert write_plan(tmp_path, [iter([PlannedLine(place="r:1", line={"id": "a"})])], 1) == 1
    assert [path.name for path in (tmp_path / "plan").iterdir()] == ["part-00000.jsonl"]


def test_a_path_with_a_dot_in_front_is_the_path_without_it(tmp_path: Path) -> None:
    candidates = [{"path": ".//./b.png"}]
    line = parse_line(LINE | {"sources": ["./a.png"], "candidates": candidates}, "r.jsonl:1")
    assert (line.sources, line.candidates[0].path) == (("a.png",), "b.png")


@pytest.mark.parametrize(
    ("name", "why"), [("a" * 300, "File name too long"), ("loop.png", "is a link that leads round in a circle")]
)
def test_a_file_that_the_system_does_not_find_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(BadImage, match=why):
        read_outside_image(tmp_path, name)


def test_a_line_that_is_no_utf_8_is_told_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes('{"id": "tasse d\'été"}\n'.encode("latin-1"))
    assert [line.fault for line in _read(tmp_path / "r.jsonl")] == ["is not UTF-8 text; save the file as UTF-8"]
