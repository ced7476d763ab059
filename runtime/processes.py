"""Processes that this one starts and ends: each in a session of its own, servers on a free port of loopback.

That a child ends where this process is killed is `runtime.child`'s part.
"""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn

import psutil

from schemas.errors import BadInput, RegionwiseError

HOST = "127.0.0.1"
STOP_TIMEOUT_S = 10
#: How much of a log's end an error carries, in characters.
TAIL_CHARS = 250

Process = subprocess.Popen[bytes]


def choose_port(wanted: int | None, usual: int) -> int:
    """`wanted`; without one `usual`, or any free one where that is taken. Raises: BadInput where `wanted` is taken."""
    if wanted is None:
        return usual if is_free(usual) else free_port()
    if not is_free(wanted):
        raise BadInput(f"port {wanted}", "is taken", "give another --port, or none for a free one")
    return wanted


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    end: Callable[[Process], None] | None = None,
    keep: Sequence[int] = (),
) -> Iterator[Process]:
    """A process without input that ends with the block: by `end`, without one by `stop`.

    folder: where it runs, without one where this process does. keep: descriptors that it inherits. A Ctrl-C of the
    terminal reaches it only through this process.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        pass_fds=keep,
    ) as started:
        try:
            yield started
        finally:
            (end or stop)(started)


def end_at_once(started: Process) -> None:
    """Kills a process."""
    started.kill()  # nothing where it has ended
    started.wait()


def end_group_at_once(started: Process) -> None:
    """Kills a process of `running` and what it started, for it has a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def ready(descriptor: int, timeout_s: float | None) -> bool:
    """Whether something can be read from a descriptor, or a connection accepted, within that time; None: for ever."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else 1_000 * timeout_s))


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> Iterator[Process]:
    """A process whose output goes to the end of `log`; it ends with the block, and what it started with it."""
    with (
        log.open("ab") as output,
        running(command, environment, folder=folder, stdout=output, stderr=subprocess.STDOUT) as started,
    ):
        yield started


def stop(started: Process) -> None:
    """Ends a process and what it started: asked twice (one of Prefect's may need it), then killed."""
    with _gone_already():
        children = psutil.Process(started.pid).children(recursive=True)
        for _ in range(2):
            if started.poll() is None:
                started.terminate()
                _wait(started)
        for child in children:
            _end(child)
    if started.poll() is None:
        started.kill()
    started.wait()


@contextmanager
def _gone_already() -> Iterator[None]:
    """A process that is gone already needs no ending."""
    try:
        yield
    except psutil.NoSuchProcess:
        return


def _wait(started: Process) -> None:
    try:
        started.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return


def _end(child: psutil.Process) -> None:
    with _gone_already():
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            child.kill()


def wait_until(ready: Callable[[], bool], thing: str, log: Path, started: Process, timeout_s: float) -> None:
    """Waits for a server that writes to `log`.

    Raises: RegionwiseError with the end of the log where its process ends, or is not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if started.poll() is not None:
            raise RegionwiseError(thing, f"ended with exit code {started.returncode}: {tail(log)}", f"read {log}")
        if time.monotonic() > deadline:
            raise RegionwiseError(thing, f"was not ready after {timeout_s:g} s: {tail(log)}", f"read {log}")
        time.sleep(0.3)


def tail(log: Path) -> str:
    """The end of a log on one line, at most 250 characters."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4 * TAIL_CHARS))
        text = " ".join(file.read().decode(errors="replace").split())
    return text[-TAIL_CHARS:] or "nothing was logged"


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """In the block a SIGTERM is an interrupt, so that what this process started ends with it; more are ignored."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
