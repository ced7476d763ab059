"""Starts the model processes of a build, one for each device, and watches them: one that dies or hangs is started once
more; then the lane ends, with one line for all who wait.

They share one listening socket, which stays open while one of them is started again, and start with the first call.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT
from threading import Event, Lock, Thread
from typing import Any

from pipeline.lanes.remote import FAULT, SOCKET, LaneChannel
from runtime.child import child_command, child_environment
from runtime.files import write_whole
from runtime.processes import Process, end_group_at_once, ready, running, tail

STARTS = 2
LOOK_S = 0.2
START_TIMEOUT_S = 180.0
EXIT_TIMEOUT_S = 30.0
BACKLOG = 1024


@dataclass
class DeviceWork:
    """What a device did: model calls, their images, the seconds they took, loads of each model, starts."""

    device: str
    calls: int = 0
    images: int = 0
    busy_s: float = 0.0
    loaded: dict[str, int] = field(default_factory=dict)
    starts: int = 0


class Lanes:
    """The model processes of one build. channel: what asks them. work: of each device, so far."""

    def __init__(self, run: Path, devices: Sequence[str], timeout_s: float) -> None:
        self._run, self._timeout_s = run, timeout_s
        self._folder = _socket_folder()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / SOCKET))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._ending, self._closed, self._lock = Event(), Event(), Lock()
        self.channel = LaneChannel(str(self._folder))
        self.work = tuple(DeviceWork(device) for device in devices)
        self._watchers = [Thread(target=self._watch, args=(number,), daemon=True) for number in range(len(devices))]
        for watcher in self._watchers:
            watcher.start()

    def close(self) -> None:
        """Ends the processes; what still waits for an answer gets none."""
        self._ending.set()
        self._closed.set()
        for watcher in self._watchers:
            watcher.join()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, number: int) -> None:
        """One device from the first call to the end."""
        work, fault = self.work[number], ""
        try:
            while not self._ending.is_set() and not ready(self._listener.fileno(), LOOK_S):
                pass
            while not self._ending.is_set() and work.starts < STARTS:
                work.starts += 1
                fault = self._run_once(work, self._log(number))
        except Exception as error:  # whatever it is: unwatched, those who wait would wait for ever
            fault = f"cannot be watched: {error}"
        if not self._ending.is_set():
            self._give_up(work, fault, self._log(number))

    def _log(self, number: int) -> Path:
        return self._run / f"models-{number}.log"

    def _run_once(self, work: DeviceWork, log: Path) -> str:
        """One process from its start to its end; what ended it."""
        reading, writing = os.pipe()
        try:
            descriptors = (self._listener.fileno(), writing)
            arguments = (str(self._run), work.device, *map(str, descriptors))
            command = child_command("pipeline.lanes.process", *arguments)
            environment = {**child_environment(), "TQDM_DISABLE": "1"}
            end = end_group_at_once
            with (
                log.open("wb" if work.starts == 1 else "ab") as output,
                running(command, environment, stdout=output, stderr=STDOUT, end=end, keep=descriptors) as process,
            ):
                os.close(writing)
                writing = -1
                return _follow(process, reading, work, self._timeout_s, self._ending)
        finally:
            for descriptor in (reading, writing):
                if descriptor >= 0:
                    os.close(descriptor)

    def _give_up(self, work: DeviceWork, fault: str, log: Path) -> None:
        """Says to all who wait that nobody will answer any more, and ends the others."""
        with self._lock:
            if self._ending.is_set():
                return
            try:
                thing, remedy = f"the model process of {work.device}", f"read {log}; start again: what is done is kept"
                said = f"{fault}, {work.starts} times" + (f"; its log ends: {tail(log)}" if _has_text(log) else "")
                write_whole(self._folder / FAULT, json.dumps([thing, said, remedy]))
            finally:
                (self._folder / SOCKET).unlink()
                self._ending.set()
        while not self._closed.wait(LOOK_S):  # who connected and was not taken hears that it ended
            with suppress(OSError):
                while True:
                    self._listener.accept()[0].close()


def _has_text(log: Path) -> bool:
    return log.is_file() and log.stat().st_size > 0


def _follow(process: Process, events: int, work: DeviceWork, timeout_s: float, ending: Event) -> str:
    """Reads what a process says until it ends, hangs, or shall end; what ended it."""
    progress, rest = _Progress(work), b""
    while not ending.is_set() or ready(events, 0):
        if not ready(events, LOOK_S):
            limit_s = timeout_s if progress.has_started else max(timeout_s, START_TIMEOUT_S)
            if progress.at and time.monotonic() - progress.since > limit_s:
                return f"{progress.at} for more than {limit_s:g} s"
            if process.poll() is None:
                continue
        data = os.read(events, 1 << 16) if ready(events, 0) else b""
        if not data:
            return f"ended (exit code {process.wait(EXIT_TIMEOUT_S)}) while it {progress.at or 'waited'}"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            progress.note(json.loads(line))
    return ""


class _Progress:
    """What a process is at, '' for nothing, and since when (monotonic, in s)."""

    def __init__(self, work: DeviceWork) -> None:
        self.at, self.since, self.has_started = "started", time.monotonic(), False
        self._work, self._call = work, ""

    def note(self, event: dict[str, Any]) -> None:
        """Takes up what the process says: working (parts), loading and loaded (model), idle (calls, images)."""
        seconds, self.since, self.has_started = time.monotonic() - self.since, time.monotonic(), True
        if event["state"] == "working":
            self.at = self._call = f"worked on {', '.join(event['parts']) or 'a first question'}"
        elif event["state"] == "loading":
            self.at = f"loaded the {event['model']}"
        elif event["state"] == "loaded":
            self.at = self._call
            self._work.loaded[event["model"]] = self._work.loaded.get(event["model"], 0) + 1
        else:
            self.at = ""
            self._work.calls += event["calls"]
            self._work.images += event["images"]
            self._work.busy_s += seconds if event["calls"] else 0.0


def _socket_folder() -> Path:
    """A new folder for a socket, whose path the system allows 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="regionwise-"))
    if len(str(folder / SOCKET)) < 100:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="regionwise-", dir="/tmp"))


@contextmanager
def running_lanes(run: Path, devices: Sequence[str], timeout_s: float) -> Iterator[Lanes]:
    """The model processes of a run, one for each device, which end with the block; their logs lie in the run.

    timeout_s: the longest that one may take to load a model, or for a batch.
    """
    lanes = Lanes(run.resolve(), devices, timeout_s)
    try:
        yield lanes
    finally:
        lanes.close()
