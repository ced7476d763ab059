"""A command as a process of its own, struck in the middle of its work, and what it leaves running."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from uuid import uuid4

import psutil

from runtime.child import child_environment

#: In the environment of a command and of all that it starts, so that they are found whoever their parent is.
MARK = "REGIONWISE_MARK"
TIMEOUT_S = 240
#: A child whose parent was killed asks itself to end, and is gone ten seconds after that.
ORPHANS_END_S = 30
LOOK_S = 0.002
#: Begins a line on what went wrong.
ERROR = "regionwise: "
#: Said by a command whose child has said on the line before why it ended.
_ABOVE = "see its message above"


class Broken(Exception):
    """What must not happen did."""


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, negative for a signal; said: its stderr."""

    code: int
    said: str

    def line(self) -> str:
        """The one line that says why it failed. Raises: Broken where it is none, or a traceback."""
        lines = [line for line in self.said.splitlines() if line.startswith(ERROR) and not line.endswith(_ABOVE)]
        if self.code == 0 or len(lines) != 1 or not self.is_told():
            raise Broken(f"exit code {self.code}, not one line: {self.said[-1_500:]}")
        return re.sub(r"^regionwise: ", "", lines[0])

    def is_told(self) -> bool:
        """Whether no traceback stands in what it said."""
        return "Traceback" not in self.said

    def require_done(self) -> None:
        """Raises: Broken where it did not end well."""
        if self.code:
            raise Broken(f"exit code {self.code}: {self.said[-1_500:]}")


@dataclass(frozen=True)
class Started:
    """A command under way. mark: of it and all its children; errors: where its stderr goes."""

    process: "subprocess.Popen[bytes]"
    mark: str
    errors: IO[bytes]

    def await_progress(self, progress: Callable[[], int], least: int) -> bool:
        """Waits until it is so far; False where it ended before."""
        until = time.monotonic() + TIMEOUT_S
        while progress() < least:
            if self.process.poll() is not None:
                return False
            if time.monotonic() > until:
                self._kill_all()
                raise Broken(f"it came no further than {progress()} of {least} in {TIMEOUT_S} s")
            time.sleep(LOOK_S)
        return self.process.poll() is None

    def send(self, number: int) -> None:
        """A signal to the command alone, not to its children."""
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Waits for the command, and for all that it started. Raises: Broken where one of them goes on."""
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill_all()
            raise Broken(f"it did not end in {TIMEOUT_S} s") from None
        left = self._left()
        self._kill_all()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        self.errors.close()
        if left:
            raise Broken(f"it left running: {'; '.join(left)}")
        return Ended(code, said)

    def _left(self) -> list[str]:
        """The command lines of what still runs once all had time to end."""
        until = time.monotonic() + ORPHANS_END_S
        while (left := marked(self.mark)) and time.monotonic() < until:
            time.sleep(0.05)
        return [_words(process) for process in left]

    def _kill_all(self) -> None:
        for process in marked(self.mark):
            with suppress(psutil.Error):
                process.kill()


def start(words: Sequence[str], environment: Mapping[str, str]) -> Started:
    """Starts a command in the current folder, whatever it prints thrown away but errors."""
    mark, errors = uuid4().hex, tempfile.TemporaryFile()
    process = subprocess.Popen(
        words,
        env={**child_environment(), **environment, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    return Started(process, mark, errors)


def marked(mark: str) -> list[psutil.Process]:
    """All processes that a command started, and itself, those that only wait to be reaped left out."""
    return [process for process in psutil.process_iter() if _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "a process that has just ended"
