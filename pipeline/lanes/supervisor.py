"""Starts the model processes of a build, one for each device, and watches them: one that dies or hangs is started once
more; then the lane ends, with one line for all who wait.

They share one listening socket, which stays open while one of them is started again, and start with the first call.
"""

import json
import os
import select
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

from pipeline.config import BuildConfig
from pipeline.lanes.remote import FAULT, SOCKET, LaneChannel
from runtime.checkout import CHECKOUT
from runtime.child import child_command
from runtime.files import write_whole
from runtime.processes import Process, end_at_once, running, tail

STARTS = 2
LOOK_S = 0.2
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

    def __init__(self, run: Path, config: BuildConfig, devices: Sequence[str]) -> None:
        self._run, self._config = run, config
        self._folder = Path(tempfile.mkdtemp(prefix="regionwise-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / SOCKET))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._ending, self._lock = Event(), Lock()
        self.channel = LaneChannel(str(self._folder))
        self.work = tuple(DeviceWork(device) for device in devices)
        self._watchers = [Thread(target=self._watch, args=(number,), daemon=True) for number in range(len(devices))]
        for watcher in self._watchers:
            watcher.start()

    def close(self) -> None:
        """Ends the processes; what still waits for an answer gets none."""
        self._ending.set()
        for watcher in self._watchers:
            watcher.join()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, number: int) -> None:
        """One device from the first call to the end."""
        while not self._ending.is_set() and not select.select([self._listener], [], [], LOOK_S)[0]:
            pass
        work, fault = self.work[number], ""
        while not self._ending.is_set() and work.starts < STARTS:
            work.starts += 1
            fault = self._run_once(number)
        if not self._ending.is_set():
            self._give_up(work.device, fault, self._log(number))

    def _log(self, number: int) -> Path:
        return self._run / f"models-{number}.log"

    def _run_once(self, number: int) -> str:
        """One process from its start to its end; what ended it."""
        work, (reading, writing) = self.work[number], os.pipe()
        descriptors = (self._listener.fileno(), writing)
        arguments = (str(self._run), self._config.model_dump_json(), work.device, *map(str, descriptors))
        command = child_command("pipeline.lanes.process", *arguments)
        path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "TQDM_DISABLE": "1"}
        with (
            open(reading, "rb", buffering=0) as events,
            self._log(number).open("ab") as log,
            running(command, environment, stdout=log, stderr=STDOUT, end=end_at_once, keep=descriptors) as process,
        ):
            os.close(writing)
            return _follow(process, events.fileno(), work, self._config.model_timeout_s, self._ending)

    def _give_up(self, device: str, fault: str, log: Path) -> None:
        """Says to all who wait that nobody will answer any more, and ends the others."""
        with self._lock:
            if self._ending.is_set():
                return
            thing, remedy = f"the model process of {device}", f"read {log}; start again: what is done is kept"
            said = f"{fault}, {STARTS} times" + (f"; its log ends: {tail(log)}" if log.stat().st_size else "")
            write_whole(self._folder / FAULT, json.dumps([thing, said, remedy]))
            (self._folder / SOCKET).unlink()
            self._ending.set()
            with suppress(BlockingIOError):  # who connected already and was not taken hears that it ended
                while True:
                    self._listener.accept()[0].close()


def _follow(process: Process, events: int, work: DeviceWork, timeout_s: float, ending: Event) -> str:
    """Reads what a process says until it ends, hangs, or shall end; what ended it."""
    progress, rest = _Progress(work), b""
    while not ending.is_set():
        if not select.select([events], [], [], LOOK_S)[0]:
            if progress.at and time.monotonic() - progress.since > timeout_s:
                return f"{progress.at} for more than {timeout_s:g} s"
            continue
        data = os.read(events, 1 << 16)
        if not data:
            return f"ended (exit code {process.wait()}) while it {progress.at or 'waited'}"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            progress.note(json.loads(line))
    return ""


class _Progress:
    """What a process is at, '' for nothing, and since when (monotonic, in s)."""

    def __init__(self, work: DeviceWork) -> None:
        self.at, self.since = "started", time.monotonic()
        self._work, self._call = work, ""

    def note(self, event: dict[str, Any]) -> None:
        """Takes up what the process says: working (parts), loading and loaded (model), idle (calls, images)."""
        seconds, self.since = time.monotonic() - self.since, time.monotonic()
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


@contextmanager
def running_lanes(run: Path, config: BuildConfig, devices: Sequence[str]) -> Iterator[Lanes]:
    """The model processes of a build, one for each device, which end with the block; their logs lie in the run.

    None of them may take longer than `config.model_timeout_s` to start, to load a model, or for a batch.
    """
    lanes = Lanes(run.resolve(), config, devices)
    try:
        yield lanes
    finally:
        lanes.close()
