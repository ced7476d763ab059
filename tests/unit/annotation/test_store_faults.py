"""What SQLite says against the store: only a file that is damaged is one to bring back from a copy."""

import sqlite3
from pathlib import Path

import pytest

from annotation.store import open_store, store_path
from annotation.store_faults import named_faults
from schemas.errors import DamagedFile, NoRoom, RegionwiseError, RunInUse
from tests.cases.rater_cases import numbered


def test_a_full_disk_is_named_with_what_to_do_and_the_same_answers_are_kept_afterwards(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    with open_store(path, create=True) as store:
        store.add([numbered(0)])

    def overfill() -> None:
        with open_store(path) as store:
            pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
            store._connection.execute(f"PRAGMA max_page_count = {pages}")
            store.add([numbered(n) for n in range(400)])

    with pytest.raises(NoRoom) as caught:
        overfill()
    assert caught.value.thing == str(path)
    assert "has no room left on its disk" in caught.value.fault
    assert caught.value.remedy == "make room and start again: what is in it is whole, keep it"
    with open_store(path) as store:
        assert store.count() == 1
        assert store.add([numbered(n) for n in range(400)]) == 399


def test_a_file_that_may_not_be_written_is_no_damaged_one(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    with open_store(path, create=True):
        pass

    def write() -> None:
        with open_store(path) as store:
            store._connection.execute("PRAGMA query_only = 1")
            store.add([numbered(0)])

    with pytest.raises(RegionwiseError, match=r"may not be written.*; give yourself the right") as caught:
        write()
    assert not isinstance(caught.value, DamagedFile)
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(RegionwiseError, match="may not be written") as caught,
        open_store(tmp_path / "folder", create=True),
    ):
        pass
    assert not isinstance(caught.value, DamagedFile)


CODES = {
    "a disk that fails": (sqlite3.SQLITE_IOERR_WRITE, RegionwiseError, "cannot be read or written"),
    "a busy file": (sqlite3.SQLITE_BUSY_SNAPSHOT, RunInUse, "was held for 60 s"),
    "a locked table": (sqlite3.SQLITE_LOCKED, RunInUse, "was held for 60 s"),
    "a damaged file": (sqlite3.SQLITE_CORRUPT_INDEX, DamagedFile, "bring it back from a copy"),
    "another file": (sqlite3.SQLITE_NOTADB, DamagedFile, "bring it back from a copy"),
    "a fault of ours": (sqlite3.SQLITE_CONSTRAINT_TRIGGER, RegionwiseError, "look into it before you start again"),
}


@pytest.mark.parametrize(("code", "kind", "said"), CODES.values(), ids=CODES)
def test_only_a_damaged_file_is_one_to_bring_back(code: int, kind: type[RegionwiseError], said: str) -> None:
    error = sqlite3.DatabaseError("it said")
    error.sqlite_errorcode = code
    with pytest.raises(RegionwiseError, match=said) as caught, named_faults(Path("there"), 60.0):
        raise error
    assert type(caught.value) is kind
    assert ("from a copy" in str(caught.value)) == (kind is DamagedFile)
