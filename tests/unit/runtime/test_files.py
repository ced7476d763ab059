"""A file exists only when it is whole."""

from pathlib import Path

import pytest

from runtime.files import remove_temporaries, whole_file, write_whole


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


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".tmp-part.1").write_text("half")
    (tmp_path / "deep" / "whole").write_text("whole")
    remove_temporaries(tmp_path)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["whole"]
