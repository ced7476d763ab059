"""Room on a disk and the right to write, looked at before work begins, and how a command says what it lacks."""

import errno
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryFile

from schemas.errors import NoRoom, RegionwiseError

#: What the system says of a full disk, and of a share of it that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Begins what to do about it, whatever was being written.
MAKE_ROOM = "make room and start again"
KEPT = "what is done is kept"
#: What a file system says that cannot keep room for a file.
_CANNOT_SAY = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def no_room(path: object, error: OSError) -> NoRoom:
    """What to raise where `path` could not be written whole, for the disk is full."""
    return NoRoom(str(path), f"cannot be written: {error.strerror or error}", f"{MAKE_ROOM}: {KEPT}")


def told(error: RegionwiseError | OSError) -> RegionwiseError:
    """What the system said, as the one line that a person reads: the file, the fault and the remedy."""
    if isinstance(error, RegionwiseError):
        return error
    thing = str(error.filename or "file system")
    if error.errno in FULL:
        return no_room(thing, error)
    return RegionwiseError(thing, error.strerror or type(error).__name__, f"mend it and start again: {KEPT}")


def require_room(path: Path, needed_bytes: int) -> None:
    """Raises: NoRoom, naming the file or folder `path` that is to grow, where its disk has less room."""
    free = free_bytes(path)
    if free < needed_bytes:
        fault = f"{needed_bytes:,} bytes are needed and {free:,} are free on its disk"
        raise NoRoom(str(path), fault, f"{MAKE_ROOM}: {KEPT}")


def free_bytes(path: Path) -> int:
    """What may still be written to the disk of `path`, which need not be there yet."""
    return shutil.disk_usage(place_of(path)).free


def require_place(path: Path, needed_bytes: int = 1 << 16) -> None:
    """Whether the file or folder `path`, which need not be there yet, can be written; nothing is left there.

    Raises: NoRoom where its disk has less room than `needed_bytes`; RegionwiseError where nothing may be written there.
    """
    try:
        keep_room(place_of(path.parent if path.is_file() else path), needed_bytes)
    except OSError as error:
        if error.errno in FULL:
            raise no_room(path, error) from None
        fault, remedy = f"cannot be written: {error.strerror or error}", "make it writable, or name another place"
        raise RegionwiseError(str(path), fault, remedy) from None


def require_folders(folder: Path, needed_bytes: int = 1 << 16) -> None:
    """As `require_place`; all folders in `folder`, and in those, must be ones to write into, too."""
    require_place(folder, needed_bytes)
    for place in (*folder.glob("*/"), *folder.glob("*/*/")):
        if not os.access(place, os.W_OK | os.X_OK):
            raise RegionwiseError(str(place), "cannot be written", "make it writable and start again")


def keep_room(place: Path, n_bytes: int) -> None:
    """Looks whether a file of `n_bytes` fits into the folder `place`, and leaves none. Raises: OSError."""
    with TemporaryFile(dir=place) as file:
        _fill(file.fileno(), place, n_bytes)


def _fill(descriptor: int, folder: Path, n_bytes: int) -> None:
    if sys.platform != "linux":
        if free_bytes(folder) < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_SAY:
            raise


def place_of(path: Path) -> Path:
    """The nearest folder or file of `path` that is there."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
