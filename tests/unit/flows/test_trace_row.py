"""`regionwise trace` follows a row to its end: a tar of the dataset, a reject, or what the export left out."""

import json
import unicodedata
from pathlib import Path

import pytest

from flows.cli import main
from pipeline.dataset.plan import DroppedKey
from pipeline.run.folder import read_kept
from schemas.sample import Sample


def _traced(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["trace", str(run), *arguments])
    assert caught.value.code == 0, capsys.readouterr().err
    return capsys.readouterr().out


def _kept(run: Path) -> list[Sample]:
    return list(read_kept(run, "gates", 0))


def _drop(run: Path, row: Sample, same_as: str) -> None:
    drop = DroppedKey(row.key, row.request.name, "duplicate_request", same_as)
    (run / "export" / "dropped.jsonl").write_text(json.dumps(drop.__dict__) + "\n")


def test_what_the_export_dropped_is_said(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = _kept(small_run)[0]
    _drop(small_run, row, "00000000000000aa")
    for tar in (small_run / "dataset").glob("*.tar"):
        tar.unlink()
    (line,) = [line for line in _traced(capsys, small_run, row.key).splitlines() if line.startswith("export")]
    assert row.key in line
    assert "dropped duplicate_request: repeats 00000000000000aa" in line
    (fact,) = [
        fact for fact in json.loads(_traced(capsys, small_run, row.key, "--json"))["rows"] if fact["part"] is None
    ]
    assert (fact["stage"], fact["kept"], fact["record"]["same_as"]) == ("export", False, "00000000000000aa")


def test_a_row_that_the_export_kept_names_its_tar(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, last = _kept(small_run)
    _drop(small_run, last, first.request.id)
    traced = _traced(capsys, small_run, first.key)
    assert ".tar" in traced
    assert "\nexport" not in traced


def test_a_row_that_waits_for_its_export_says_so(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tar in (small_run / "dataset").glob("*.tar"):
        tar.unlink()
    assert "in no tar yet" in _traced(capsys, small_run, _kept(small_run)[0].key)


def test_a_name_is_found_in_either_unicode_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = unicodedata.normalize("NFD", "schön")
    (tmp_path / "r.jsonl").write_text(json.dumps({"id": name, "sources": ["r.jsonl"], "instruction": "x"}))
    with pytest.raises(SystemExit):
        main(["build", "--run", str(tmp_path / "run"), "--requests", str(tmp_path / "r.jsonl"), "--json"])
    capsys.readouterr()
    assert "unreadable" in _traced(capsys, tmp_path / "run", unicodedata.normalize("NFC", name))
