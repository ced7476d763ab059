"""Files that exist only when they are whole: a temporary name in the same folder, fsync, rename."""

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from pathlib import Path
from threading import get_native_id
from typing import IO

from runtime.disk import FULL

TEMPORARY_PREFIX = ".tmp-"
#: The file by which a folder is held (`runtime.locks.locked`).
LOCK = ".lock"


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write that takes the name `path` once the block ends without an error, and leaves nothing otherwise.

    mode: its permissions from its first byte on, less the process's umask. Raises: OSError, which names the file, too,
    where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}-{get_native_id()}"
    try:
        temporary.unlink(missing_ok=True)  # one that is there already would keep its own permissions
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in FULL and error.filename is None:  # a write says no name
            error.filename = str(path)
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


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
    """Removes what a killed process left half written below `folder`; only while nobody else works there.

    Folders inside that have a lock of their own are left to those who hold it.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        for name in files:
            if name.startswith(TEMPORARY_PREFIX):
                Path(place, name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
