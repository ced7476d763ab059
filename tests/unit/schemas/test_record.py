"""Documents: versions, one-line faults, ids."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from schemas import record
from schemas.errors import BadInput, NewerSchema
from schemas.geometry import CocoRle
from schemas.json_schema import DOCUMENTS, files
from schemas.record import Document
from schemas.request import EditRequest, RequestLine, Source, Target, request_id
from schemas.sample import Sample


class Note(Document):
    """A document of version 3 for these tests."""

    schema_name: ClassVar[str] = "note"
    schema_version: ClassVar[int] = 3

    text: str


@pytest.fixture
def upgrades() -> Iterator[None]:
    record.UPGRADES[("note", 1)] = lambda fields: {"words": fields["t"]}
    record.UPGRADES[("note", 2)] = lambda fields: {"text": fields["words"].strip()}
    yield
    del record.UPGRADES[("note", 1)], record.UPGRADES[("note", 2)]


@pytest.mark.usefixtures("upgrades")
def test_an_older_document_is_upgraded_step_by_step() -> None:
    assert Note.from_document({"schema": "note/1", "t": " hello "}, thing="a note") == Note(text="hello")


def test_a_newer_document_is_refused_by_name() -> None:
    with pytest.raises(NewerSchema, match=r"a note: has schema note/4.*up to note/3.*update"):
        Note.from_document({"schema": "note/4", "text": "x"}, thing="a note")


@pytest.mark.parametrize("schema", ["other/1", "note", "note/x", "note/-1", 7, None, "note/1"])
def test_a_schema_that_is_none_of_ours_is_refused(schema: Any) -> None:
    with pytest.raises(BadInput):
        Note.from_document({"schema": schema, "text": "x"}, thing="a note")


def test_faults_are_one_line_however_long_the_input() -> None:
    with pytest.raises(BadInput) as caught:
        Note.from_document({"text": "x", "a\nb" * 5_000: 1}, thing="a note")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        Note.from_json(text, thing="a note")


def _request() -> EditRequest:
    source = Source(name="a.png", origin_sha256="0" * 64, pixels_sha256="0" * 64, width_px=9, height_px=7)
    target = Target(label="cup", box=(1, 1, 4, 4), mask=CocoRle(size=(7, 9), counts="o0"))
    return EditRequest(
        id="0" * 16,
        name="a",
        kind="single",
        sources=(source,),
        instruction="Make it red",
        targets=(target,),
        edit_type="recolour",
        synthetic=False,
    )


def test_a_document_in_a_document_keeps_its_schema() -> None:
    sample = Sample(key="0" * 16, request=_request(), sources=())
    written = json.loads(sample.model_dump_json())
    assert (written["schema"], written["request"]["schema"]) == ("sample/1", "edit-request/1")
    assert Sample.from_document(written, thing="row") == sample
    written["request"]["schema"] = "edit-request/9"
    with pytest.raises(BadInput, match="edit-request/9"):
        Sample.from_document(written, thing="row")


def test_the_schema_files_are_current_and_name_their_version() -> None:
    stale = [path.name for path, text in files().items() if not path.is_file() or path.read_text() != text]
    assert stale == []
    assert len(files()) == len(DOCUMENTS)
    assert '"request-line/1"' in files()[next(path for path in files() if path.name == "request-line.json")]


def test_request_id_depends_on_sources_instruction_and_targets_alone() -> None:
    target = Target(label="cup")
    first = request_id(("a" * 64,), "Make it red", (), (target,))
    assert first == request_id(("a" * 64,), "Make it red", (), (Target(label="cup"),))
    others = [
        request_id(("b" * 64,), "Make it red", (), (target,)),
        request_id(("a" * 64,), "Make it blue", (), (target,)),
        request_id(("a" * 64,), "Make it red", (), (target, target)),
        request_id(("a" * 64,), "Make it red", ("Make it red",), (target,)),
    ]
    assert len({first, *others}) == 5


STRUCTURE = {"id": "a", "sources": ["a.png"], "instruction": "Make it red"}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"sources": ["a.png", "b.png"]}, "one source"),
        ({"kind": "composition"}, "two sources"),
        ({"kind": "multi_turn", "turns": ["one"]}, "two turns"),
        ({"turns": ["one", "two"]}, "no turns"),
        ({"targets": [{"label": "cup", "turn": 1}]}, "turn 1 does not exist"),
        ({"targets": [{"label": "cup", "reference": {"source": 1}}]}, "source 1 does not exist"),
        ({"targets": [{"label": "cup", "box": [4, 4, 4, 9]}]}, "no area"),
        ({"targets": [{"label": "cup", "box": [-1, 0, 4, 9]}]}, "outside"),
        ({"instruction": " "}, "empty"),
        ({"instruction": "a\x00b"}, "control"),
        ({"instruction": "x" * 4_001}, "4000"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_request_line_that_does_not_hold_together_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        RequestLine.from_document(STRUCTURE | fields, thing="line")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "composition", "sources": ["a.png", "b.png"]},
        {"kind": "multi_turn", "turns": ["one", "two"], "targets": [{"label": "cup", "turn": 1}]},
        {"instruction": "<script>alert(1)</script>"},
    ],
)
def test_compositions_turns_and_html_are_taken(fields: dict[str, Any]) -> None:
    line = RequestLine.from_document(STRUCTURE | fields, thing="line")
    assert RequestLine.from_json(line.model_dump_json(), thing="line") == line


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "a", "name": "b"}', "names the field 'name' twice"),
        ('{"extra": [{"a": 1, "a": 2}]}', "names the field 'a' twice"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("{}".encode("utf-16"), "no UTF-8 text"),
    ],
)
def test_json_that_readers_take_differently_is_refused(text: str | bytes, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        Note.from_json(text, thing="note")
