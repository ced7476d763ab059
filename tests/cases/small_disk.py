"""A small disk that really is full: a tmpfs in a mount namespace of its own, which needs no rights."""

import errno
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

SIZE_BYTES = 96 << 20
_MOUNT = f'mount -t tmpfs -o size={SIZE_BYTES} tmpfs "$0" && echo mounted && exec cat'

_FILLER = "filler"


class SmallDisk:
    """A tmpfs at `place` while it is open. What is not started by `within` finds it at `seen` alone."""

    def __init__(self, place: Path) -> None:
        self.place = place.resolve()

    def __enter__(self) -> Self:
        self.place.mkdir(parents=True, exist_ok=True)
        words = ["unshare", "-Urm", "sh", "-c", _MOUNT, str(self.place)]
        # It reads its input until that is closed: by the end of the block, or of this process, however that comes.
        self._holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self._holder.wait()
            raise RuntimeError("no tmpfs can be mounted: user namespaces are not allowed here")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(30)

    @property
    def seen(self) -> Path:
        """Where this process finds the disk."""
        return Path(f"/proc/{self._holder.pid}/root{self.place}")

    def within(self) -> list[str]:
        """Words before a command that is to find the disk at `place`."""
        pid = str(self._holder.pid)
        return ["nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials", "--"]

    def leave(self, free_bytes: int) -> None:
        """Fills the disk but for so much, to the next page, whoever else writes meanwhile."""
        with (self.seen / _FILLER).open("ab") as filler:
            while (surplus := _free_bytes(self.seen) - free_bytes) > 0:
                try:
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), surplus)
                except OSError as error:
                    if error.errno != errno.ENOSPC:  # somebody was quicker
                        raise

    def make_room(self) -> None:
        """Takes away what fills the disk."""
        (self.seen / _FILLER).unlink(missing_ok=True)


def _free_bytes(place: Path) -> int:
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize
