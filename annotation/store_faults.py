"""What SQLite says against the annotation store, as one line that says what to do.

A store that is full, locked or out of reach is whole: an older copy in its place would lose answers.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.disk import MAKE_ROOM, free_bytes
from schemas.errors import DamagedFile, NoRoom, RegionwiseError, RunInUse


@contextmanager
def named_faults(path: Path, busy_timeout_s: float) -> Iterator[None]:
    """SQLite's errors as one line that names the file; only a damaged one is to be brought back from a copy.

    Raises: DamagedFile, RunInUse after `busy_timeout_s`, NoRoom, and RegionwiseError for all else (no right, say).
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _fault(path, error, busy_timeout_s) from None


def _fault(path: Path, error: sqlite3.DatabaseError, busy_timeout_s: float) -> RegionwiseError:
    code = error.sqlite_errorcode & 0xFF  # the rest says more of it
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunInUse(str(path), f"was held for {busy_timeout_s:g} s by another process", "wait for it")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedFile(str(path), f"cannot be used: {error}", "bring it back from a copy")
    if code == sqlite3.SQLITE_FULL:
        fault = f"has no room left on its disk: {free_bytes(path):,} bytes are free"
        return NoRoom(str(path), fault, f"{MAKE_ROOM}: what is in it is whole, keep it")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        fault = f"may not be written, or its folder may not ({error})"
        return RegionwiseError(str(path), fault, "give yourself the right and start again: what is in it is whole")
    if code == sqlite3.SQLITE_IOERR:
        remedy = "look at its disk, then start again: keep the file, it is not known to be damaged"
        return RegionwiseError(str(path), f"cannot be read or written: {error}", remedy)
    remedy = "keep the file, and look into it before you start again"
    return RegionwiseError(str(path), f"cannot be used: {error}", remedy)
