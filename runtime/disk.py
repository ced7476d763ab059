"""Room on a disk, looked at before work begins, and how a command says that there is none."""

import errno
import shutil
from pathlib import Path

from schemas.errors import RegionwiseError

#: What the system says of a full disk, and of a share of it that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Begins what to do about it, whatever was being written.
MAKE_ROOM = "make room and start again"


def require_room(path: Path, needed_bytes: int) -> None:
    """Raises: RegionwiseError, naming the file or folder `path` that is to grow, where its disk has less room."""
    free = free_bytes(path)
    if free < needed_bytes:
        fault = f"{needed_bytes:,} bytes are needed and {free:,} are free on its disk"
        raise RegionwiseError(str(path), fault, f"{MAKE_ROOM}: what is done is kept")


def free_bytes(path: Path) -> int:
    """What may still be written to the disk of `path`, which need not be there yet."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
