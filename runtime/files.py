"""Files that exist only when they are whole: a temporary name in the same folder, fsync, rename.

Whoever writes a temporary file holds it (`flock`), so that it can be told from one that a killed process left. Where
another machine writes into the same folder that lock may be none to this one: its files are left alone for a day.
"""

import fcntl
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex
from typing import IO

from runtime.disk import FULL, no_room
from schemas.errors import NoRoom, RegionwiseError

TEMPORARY_PREFIX = ".tmp-"
#: A temporary file of another machine that was not written to for so long is of no process any more.
FORSAKEN_S = 86_400.0
#: Bytes that a file's name may take.
NAME_BYTES = 255
#: The file by which a folder is held (`runtime.locks.locked`).
LOCK = ".lock"


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write that takes the name `path` once the block ends without an error, and leaves nothing otherwise.

    mode: its permissions from its first byte on, less the process's umask. Raises: NoRoom, naming the file, where the
    disk is full; RegionwiseError, where `path` is a folder; OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / _temporary_name(path.name)
    try:
        with _held_file(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _require_no_folder(path)
        temporary.replace(path)
        _sync_folder(path.parent)
    except NoRoom:
        raise
    except OSError as error:
        if error.errno in FULL and error.filename in (None, str(temporary)):  # a write says no name
            raise no_room(path, error) from None
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def _require_no_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remedy = "move it away and start again: what is done is kept"
        raise RegionwiseError(str(path), "is a folder, where a file is to be written", remedy)


def _temporary_name(name: str) -> str:
    """A name that no other writer has, in whatever process of whatever machine; it says which machine."""
    end = f".{_machine()}-{token_hex(8)}"
    kept = name.encode(errors="surrogateescape")[: NAME_BYTES - len(TEMPORARY_PREFIX) - len(end)]
    return f"{TEMPORARY_PREFIX}{kept.decode(errors='ignore')}{end}"


@cache
def _machine() -> str:
    """Which kernel runs this process, the same in all its containers and another after a restart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        boot = os.uname().nodename.encode()
    return sha256(boot).hexdigest()[:8]


def _held_file(path: Path, mode: int) -> IO[bytes]:
    """A new file that this process holds as long as it is open."""
    while True:
        file = open(path, "xb", opener=partial(os.open, mode=mode))
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # who looks for what was left took it before it was held


def write_whole(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Writes `data` (text as UTF-8) to `path`, whole or not at all. mode: as for `whole_file`."""
    with whole_file(path, mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a member without time, owner or host, so that the same data gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    tar.addfile(info, io.BytesIO(data))


def forget_members(tar: tarfile.TarFile) -> None:
    """Drops the list of what a tar holds, which one that is only written does not need; it grows with every member."""
    tar.members = []  # type: ignore[attr-defined]  # documented, and not in the stubs


class NotPlainTar(ValueError):
    """A tar that is not what `add_to_tar` writes."""


@dataclass(frozen=True)
class Member:
    """One member of a tar: `size` bytes at `offset`."""

    name: str
    offset: int
    size: int


def tar_members(path: Path) -> Iterator[Member]:
    """The members of a tar of regular files, in their order; nothing but its headers is read.

    Raises: NotPlainTar for anything else that a tar may hold (links, devices, sparse files, extended headers): each of
    them can make a reader follow, wait, or take memory that the tar's size does not tell.
    """
    if not path.is_file():
        raise NotPlainTar("is no regular file")
    end = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while (block := file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
            member = _member(block, offset + tarfile.BLOCKSIZE, end)
            yield member
            offset = member.offset + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            file.seek(offset)


def _member(block: bytes, offset: int, end: int) -> Member:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise NotPlainTar(f"has a broken header before byte {offset} ({type(error).__name__})") from None
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not 0 <= info.size <= end - offset:
        raise NotPlainTar(f"has a member at byte {offset} that is no regular file of its size")
    return Member(info.name, offset, info.size)


def sha256_of_file(path: Path) -> str:
    """sha256 in hex of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def link_or_copy(path: Path, copy: Path) -> None:
    """Makes `copy` the same file, or one of the same bytes where the file system has no links."""
    try:
        os.link(path, copy)
    except OSError:
        with path.open("rb") as source, whole_file(copy) as file:
            shutil.copyfileobj(source, file)


def remove_folder(folder: Path) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def remove_temporaries(folder: Path) -> None:
    """Removes what killed processes left half written below `folder`, and nothing that is being written.

    Folders inside that have a lock of their own are left to those who hold it.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        for name in files:
            if name.startswith(TEMPORARY_PREFIX):
                _remove_left(Path(place, name))


def _remove_left(path: Path) -> None:
    """Removes a temporary file that no process holds."""
    with suppress(FileNotFoundError, PermissionError), path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            known = False
        else:
            known = f".{_machine()}-" in path.name
        if known or time.time() - path.stat().st_mtime > FORSAKEN_S:
            path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
