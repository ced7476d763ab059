"""Files of a run folder that are not what the run wrote: made anew, or told on one line; never followed in silence."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.commands import Processes, resume_run
from pipeline.build import run_parts
from pipeline.dataset.export import export_dataset
from pipeline.dataset.verify import verify
from pipeline.report.page import write_report
from pipeline.run.folder import read_build_info, read_columns, read_done, read_rows
from pipeline.run.plan import read_plan
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.errors import BadInput, DamagedFile, NewerSchema, RegionwiseError
from tests.integration.builds import tars


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _of_its_neighbour(path: Path) -> None:
    shutil.copy(path.with_name("part-00001.jsonl"), path)


@pytest.mark.parametrize("left", ["", "{", "[]", "\xff", '{"stage": "gates"}'])
def test_a_part_whose_done_file_is_damaged_does_not_exist_and_is_made_anew(small_run: Path, left: str) -> None:
    before, path = tars(small_run), small_run / "gates" / "part-00001.done.json"
    path.write_bytes(left.encode("latin-1"))
    assert read_done(small_run, "gates", 1) is None
    with locked(small_run), workers(1) as executor:
        run_parts(small_run, read_build_info(small_run).n_parts, executor)
        export_dataset(small_run, executor)
    assert read_done(small_run, "gates", 1) is not None
    assert tars(small_run) == before


def test_a_done_file_of_a_later_version_is_not_taken_for_a_damaged_one(small_run: Path) -> None:
    path = small_run / "gates" / "part-00001.done.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": "part-done/9"}))
    with pytest.raises(NewerSchema, match="part-done/9"):
        read_done(small_run, "gates", 1)


@pytest.mark.parametrize("bend", [_emptied, _of_its_neighbour, _fifo, _folder])
def test_a_plan_that_is_not_as_it_was_written_is_not_followed(small_run: Path, bend: Callable[[Path], None]) -> None:
    bend(small_run / "plan" / "part-00000.jsonl")
    with pytest.raises(DamagedFile, match=r"plan.*: is (not as it was written|missing, or is no file).*anew"):
        resume_run(small_run, Processes(1), as_json=True)


def test_a_plan_of_a_version_that_kept_no_digest_is_taken_as_it_is(small_run: Path) -> None:
    path = small_run / "run.json"
    fields = json.loads(path.read_text())
    del fields["plan"], fields["digest"]
    path.write_text(json.dumps(fields))
    resume_run(small_run, Processes(1), as_json=True)


def test_a_run_whose_settings_are_not_as_they_were_written_is_not_gone_on_with(small_run: Path) -> None:
    path = small_run / "run.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 7'))
    with pytest.raises(DamagedFile, match=r"run.json: is not as it was written"):
        resume_run(small_run, Processes(1), as_json=True)


@pytest.mark.parametrize("bend", [_fifo, _folder])
def test_what_is_no_file_is_not_waited_for(small_run: Path, bend: Callable[[Path], None]) -> None:
    bend(small_run / "gates" / "part-00000.parquet")
    with pytest.raises(DamagedFile, match="part-00000"):
        list(read_rows(small_run, "gates", 0))
    with pytest.raises(DamagedFile, match="part-00000"):
        read_columns(small_run, "gates", 0, ["key"])
    bend(small_run / "plan" / "part-00000.jsonl")
    with pytest.raises(DamagedFile, match="part-00000"):
        list(read_plan(small_run / "plan" / "part-00000.jsonl"))


def test_a_folder_where_a_file_was_is_to_be_moved_away_before_repair(small_run: Path) -> None:
    _folder(small_run / "gates" / "part-00000.parquet")
    with pytest.raises(DamagedFile, match="move it away, then run `regionwise repair`"):
        list(read_rows(small_run, "gates", 0))


def test_a_folder_where_a_file_is_to_be_written_is_named(small_run: Path) -> None:
    path = small_run / "gates" / "part-00000.parquet"
    _folder(path)
    with (
        workers(1) as executor,
        pytest.raises(RegionwiseError, match=r"part-00000.parquet: is a folder, .*; move it away") as told,
    ):
        run_parts(small_run, read_build_info(small_run).n_parts, executor)
    assert str(told.value).startswith(str(path))


def test_a_tar_that_is_a_link_is_written_anew(small_run: Path) -> None:
    tar = small_run / "dataset" / "train-00000.tar"
    tar.symlink_to(tar.rename(small_run / "moved.tar"))
    with locked(small_run), workers(1) as executor:
        export_dataset(small_run, executor)
    assert verify(small_run / "dataset")[1] == []


def test_a_page_is_not_made_from_a_damaged_tar(small_run: Path) -> None:
    tar = small_run / "dataset" / "train-00000.tar"
    data = bytearray(tar.read_bytes())
    data[700:764] = bytes(64)
    tar.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"train-00000.tar: is not as the manifest says; run `regionwise repair`"):
        write_report(small_run)


def test_counts_of_a_done_file_or_of_a_note_that_were_changed_are_not_taken(small_run: Path) -> None:
    before = (small_run / "dataset" / "manifest.json").read_text()
    for path, name in ((small_run / "regions" / "part-00001.done.json", '"kept": '), (_note(small_run), '"samples":')):
        text = path.read_text()
        assert name in text
        path.write_text(text.replace(name, f"{name}1"))
    with locked(small_run), workers(1) as executor:
        run_parts(small_run, read_build_info(small_run).n_parts, executor)
        export_dataset(small_run, executor)
    after = json.loads((small_run / "dataset" / "manifest.json").read_text())
    assert [after[name] for name in ("stages", "shards")] == [json.loads(before)[name] for name in ("stages", "shards")]


def _note(run: Path) -> Path:
    return run / "export" / "train-00000.tar.done.json"


def test_an_export_asks_for_the_done_files_of_every_stage(small_run: Path) -> None:
    (small_run / "regions" / "part-00001.done.json").unlink()
    with workers(1) as executor, pytest.raises(BadInput, match=r"1 of 3 parts .*regionwise resume"):
        export_dataset(small_run, executor)
