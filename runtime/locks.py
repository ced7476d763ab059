"""Locks between processes: a folder or a file that one process holds at a time. A lock goes with its process."""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.files import LOCK, remove_temporaries, write_whole
from schemas.errors import RunInUse


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, made where it is not there; what a killed process left half written is removed first.

    Raises: RunInUse, naming the process that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / ".lock.json"
    with locked_file(
        folder / LOCK, lambda: RunInUse(str(folder), f"is in use by {_holder(holder)}", "wait for it or end it")
    ):
        remove_temporaries(folder)
        process = {"process": os.getpid(), "host": platform.node(), "command": " ".join(sys.argv)[:300]}
        write_whole(holder, json.dumps(process))
        yield


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        host = facts.get("host", platform.node())
        where = "" if host == platform.node() else f" on {host}"  # another container has a process of that number, too
        return f"process {facts['process']}{where} ({facts['command']})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process"


@contextmanager
def locked_file(path: Path, in_use: Callable[[], RunInUse] | None = None, timeout_s: float = 0) -> Iterator[None]:
    """Holds the lock file `path`; without `in_use` it is waited for as long as it takes.

    Raises: `in_use()` where another process holds it for longer than `timeout_s`.
    """
    lock = FileLock(path, timeout=timeout_s if in_use else -1)
    try:
        lock.acquire()
    except Timeout:
        if in_use is None:
            raise
        raise in_use() from None
    try:
        yield
    finally:
        lock.release()
