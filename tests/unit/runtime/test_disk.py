"""Room and rights are looked at before work begins, and what the system says is one line, wherever it was met."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from pipeline.run.faults import of_part
from pipeline.run.in_flight import in_flight
from runtime.disk import require_folders, require_place, told
from runtime.exits import failed
from schemas.errors import BadInput, NoRoom, RegionwiseError


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_looking_leaves_nothing_and_needs_neither_file_nor_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "a" / "b", tmp_path / "file"):
        require_place(place)
        require_folders(place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_in_the_way_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    fault = r"file/out: cannot be written: Not a directory; make it writable, or name another place$"
    with pytest.raises(RegionwiseError, match=fault):
        require_place(tmp_path / "file" / "out")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        NoRoom, match=rf"^{tmp_path}: cannot be written: .*; make room and start again: what is done is"
    ):
        require_place(tmp_path)


def test_every_folder_of_a_run_is_one_to_write_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images" / "sources").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda place, _: Path(place).name != "sources")
    with pytest.raises(RegionwiseError, match=r"images/sources: cannot be written; make it writable and start again"):
        require_folders(tmp_path)


def test_a_full_disk_goes_through_processes_and_handlers_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    error = told(OSError(errno.EDQUOT, "Disk quota exceeded", "there"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code, again.errno) == (NoRoom, str(error), 2, errno.ENOSPC)
    assert isinstance(again, OSError)
    assert told(again) is again
    assert failed(again) == 2
    assert failed(BadInput("it", "is bad")) == 2
    assert failed(PermissionError(errno.EACCES, "Permission denied", "there")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "regionwise: there: cannot be written: Disk quota exceeded; make room and start again: what is done is kept",
        "regionwise: it: is bad",
        "regionwise: there: Permission denied; mend it and start again: what is done is kept",
    ]


def test_a_stage_whose_disk_is_full_says_so_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=r"^rows: cannot be written: No space left on device; make room and start again"):
        with of_part(tmp_path, "gates", 3):
            raise OSError(errno.ENOSPC, "No space left on device", "rows")
    assert list(tmp_path.iterdir()) == []


def test_a_marker_that_finds_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoRoom, match=r"gates/part-00003\.working\.json: cannot be written"):
        with in_flight(tmp_path, "gates", 3, "a"):
            pass
    assert list((tmp_path / "gates").iterdir()) == []
