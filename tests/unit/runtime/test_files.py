"""A file exists only when it is whole."""

import errno
import os
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import pytest

from runtime.files import FORSAKEN_S, LOCK, link_or_copy, remove_temporaries, whole_file, write_whole
from schemas.errors import NoRoom


def test_a_file_appears_at_the_end_of_the_block_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    with whole_file(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("a.txt", "old")]


def test_two_threads_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as file:
        file.write(b"one ")
        other = Thread(target=write_whole, args=(path, "another thread's"))
        other.start()
        other.join()
        assert path.read_text() == "another thread's"
        file.write(b"thread's")
    assert path.read_text() == "one thread's"


def test_two_writers_of_one_process_number_and_thread_number_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"  # as two containers on one file system have them
    with whole_file(path) as one:
        one.write(b"one ")
        with whole_file(path) as other:
            other.write(b"another")
        assert path.read_text() == "another"
        one.write(b"whole")
    assert path.read_text() == "one whole"


def left_by_a_killed_process(path: Path) -> Path:
    """What stays of `path` where the process that writes it is killed."""
    with whole_file(path) as file:
        left = Path(file.name)
    path.unlink()
    left.write_text("half")
    return left


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left_by_a_killed_process(tmp_path / "deep" / "part")
    (tmp_path / "deep" / "whole").write_text("whole")
    remove_temporaries(tmp_path)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["whole"]


def test_what_is_being_written_is_never_removed(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.txt") as file:
        file.write(b"half")
        remove_temporaries(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "half"


@pytest.mark.parametrize("name", [".tmp-a.txt.01234567-0011223344556677", ".tmp-a.txt.17-17"])
def test_what_another_machine_or_an_earlier_version_may_be_writing_stays_for_a_day(tmp_path: Path, name: str) -> None:
    left = tmp_path / name
    left.write_text("half")
    remove_temporaries(tmp_path)
    assert left.exists()
    before = left.stat().st_mtime - FORSAKEN_S
    os.utime(left, (before, before))
    remove_temporaries(tmp_path)
    assert not left.exists()


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    write_whole(path, "whole")
    assert path.read_text() == "whole"


def test_a_private_file_is_its_owners_alone_from_the_first_byte_on(tmp_path: Path) -> None:
    with whole_file(tmp_path / "account.json", mode=0o600) as file:
        file.write(b"secret")
        assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert (tmp_path / "account.json").stat().st_mode & 0o777 == 0o600
    write_whole(tmp_path / "public.json", "{}")
    assert (tmp_path / "public.json").stat().st_mode & 0o044 == 0o044 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_what_others_hold_inside_a_folder_is_left_to_them(tmp_path: Path) -> None:
    for name in ("mine", "held"):
        left_by_a_killed_process(tmp_path / name / "deep" / "part")
    (tmp_path / "held" / LOCK).touch()
    remove_temporaries(tmp_path)
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob(".tmp-*")] == ["held"]
    remove_temporaries(tmp_path / "held")
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_a_link_is_the_same_file_or_a_copy_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_bytes(b"bytes")
    link_or_copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").samefile(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr("os.link", Mock(side_effect=PermissionError))
        link_or_copy(tmp_path / "one", tmp_path / "three")
    assert (tmp_path / "three").read_bytes() == b"bytes"
    assert not (tmp_path / "three").samefile(tmp_path / "one")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_in_the_middle_of_a_file_names_the_file(tmp_path: Path, number: int) -> None:
    with pytest.raises(NoRoom) as caught, whole_file(tmp_path / "outer"), whole_file(tmp_path / "out.bin"):
        raise OSError(number, os.strerror(number))
    remedy = "make room and start again: what is done is kept"
    assert str(caught.value) == f"{tmp_path / 'out.bin'}: cannot be written: {os.strerror(number)}; {remedy}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_told_by_the_name_of_the_file() -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        write_whole(Path("/proc/regionwise"), "")
    assert caught.value.filename == "/proc/regionwise"
