"""A folder has one holder at a time, and the one who comes second is told who."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from runtime.locks import locked, locked_file
from schemas.errors import RunInUse
from tests.unit.runtime.test_files import left_by_a_killed_process


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunInUse, match=rf"in use by process {os.getpid()} \("), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_holder_in_another_container_is_named_with_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        holder = {"process": 17, "host": "elsewhere", "command": "regionwise build"}
        (tmp_path / ".lock.json").write_text(json.dumps(holder))
        words = r"in use by process 17 on elsewhere \(regionwise build\)"
        with pytest.raises(RunInUse, match=words), locked(tmp_path):
            pass


def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock.json").write_text("[]")
        with pytest.raises(RunInUse, match="in use by another process"), locked(tmp_path):
            pass


def test_what_was_left_half_written_is_gone(tmp_path: Path) -> None:
    left = left_by_a_killed_process(tmp_path / "regions" / "part-00000.parquet")
    with locked(tmp_path):
        assert not left.exists()
        assert json.loads((tmp_path / ".lock.json").read_text())["process"] == os.getpid()


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def _hold_and_die(folder: Path) -> None:
    with locked(folder):
        os._exit(9)


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    died = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(tmp_path,))
    died.start()
    died.join()
    assert died.exitcode == 9
    with locked(tmp_path):
        pass


def test_a_held_file_is_told_in_the_words_of_its_user(tmp_path: Path) -> None:
    in_use = RunInUse("the store", "is sent from", "wait")
    with locked_file(tmp_path / "a.lock"):
        with pytest.raises(RunInUse, match="is sent from"), locked_file(tmp_path / "a.lock", lambda: in_use, 0.01):
            pass
        with locked_file(tmp_path / "b.lock", lambda: in_use):
            pass
