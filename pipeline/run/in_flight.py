"""What a unit (one stage on one part) works on at this moment, on disk: it outlives a process that is killed at it.

While a unit is under way its marker `<stage>/part-00017.working.json` names the rows in flight; it goes when the unit
ends or raises. So who begins a unit and finds one knows that a process died at it, and at which rows. What ends its
process again and again (a *poison message*, as queues call it) is given up at `DEATHS_MAX` and becomes a reject. Only
deaths of one invocation, one command, count: a build that was killed as a whole says nothing of its rows.

Nothing is synced to the disk: a process that dies leaves its writes to the kernel, and a host that dies costs a count.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from pipeline.run.dask_cluster import give_thread_up
from pipeline.run.folder import STAGES, part_name, read_kept
from pipeline.run.plan import PlannedLine, line_name
from runtime.disk import FULL, no_room
from schemas.errors import RegionwiseError
from schemas.sample import Rejection, Sample

#: Deaths at which a row is given up: one may be chance (a host that went down), and with it a second.
DEATHS_MAX = 3
REASON = "kills_worker"
#: In `Marker.deaths`, for those at none of the unit's rows.
NO_ROW = ""

#: Units that had a death run one at a time in a process: threads would share the blame for each death again.
_RETRIES = Lock()


@dataclass(frozen=True)
class Marker:
    """What a marker says.

    pid: of the process at work. working: keys of the rows in flight, () between rows (a model loads, files are
    written), None while the unit waits for its turn. deaths: processes that died, by the key of a row in flight.
    """

    invocation: str
    pid: int
    working: tuple[str, ...] | None
    deaths: dict[str, int]


class InFlight:
    """The marker of a unit under way, at `path`. deaths: those found at its begin, by key."""

    def __init__(self, path: Path, descriptor: int, invocation: str, deaths: dict[str, int]) -> None:
        self._path, self._descriptor, self.deaths = path, descriptor, deaths
        lasting = {"invocation": invocation, "pid": os.getpid(), "deaths": deaths}
        self._head = json.dumps(lasting)[:-1] + ', "working": '
        self.working: tuple[str, ...] | None = None
        self._size = os.fstat(descriptor).st_size
        self._write(None)

    def begin(self, keys: Collection[str] = ()) -> None:
        """Says that these rows are worked on from now on, and no others."""
        if (now := tuple(keys)) != self.working:
            self._write(now)

    def gives_up(self, row: object) -> bool:
        """Whether a row ended so many processes that it is not to be worked on again."""
        return bool(self.deaths) and self.deaths.get(row_key(row), 0) >= DEATHS_MAX

    def _write(self, working: tuple[str, ...] | None) -> None:
        text = f"{self._head}{json.dumps(working)}}}".encode()
        try:
            os.pwrite(self._descriptor, text.ljust(self._size), 0)  # one call: a kill leaves the old text or the new
        except OSError as error:
            if error.errno in FULL:
                raise no_room(self._path, error) from None
            raise
        self.working, self._size = working, len(text)


def marker_path(run: Path, stage: str, part: int) -> Path:
    """Where the marker of a unit lies while it is under way."""
    return run / stage / f"{part_name(part)}.working.json"


@contextmanager
def in_flight(run: Path, stage: str, part: int, invocation: str) -> Iterator[InFlight]:
    """The marker of a unit for the time of the block, with the deaths at it so far within this invocation.

    Raises: RegionwiseError where the unit ended its process `DEATHS_MAX` times at none of its rows.
    """
    path = marker_path(run, stage, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    deaths = _deaths(read_marker(path), invocation)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        unit = InFlight(path, descriptor, invocation, deaths)
        with _in_turn() if deaths else nullcontext():
            _check_between_rows(run, stage, part, deaths)
            unit.begin()
            yield unit
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def _in_turn() -> Iterator[None]:
    """One unit at a time in this process. Who waits leaves its thread to tasks that the one at work may wait for."""
    if not _RETRIES.acquire(blocking=False):
        give_thread_up()
        _RETRIES.acquire()
    try:
        yield
    finally:
        _RETRIES.release()


def read_marker(path: Path) -> Marker | None:
    """The marker at `path`; None for none, or for anything that is no marker."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        fields = json.loads(path.read_bytes())
        working, deaths = fields["working"], fields["deaths"]
        return Marker(
            invocation=str(fields["invocation"]),
            pid=int(fields["pid"]),
            working=None if working is None else tuple(map(str, working)),
            deaths={str(key): int(deaths[key]) for key in deaths},
        )
    return None


def _deaths(left: Marker | None, invocation: str) -> dict[str, int]:
    """Deaths by key, with the one that left this marker behind."""
    if left is None or not invocation or left.invocation != invocation:
        return {}
    deaths = Counter(left.deaths)
    deaths.update([] if left.working is None else left.working or [NO_ROW])
    return dict(deaths)


def _check_between_rows(run: Path, stage: str, part: int, deaths: dict[str, int]) -> None:
    if deaths.get(NO_ROW, 0) >= DEATHS_MAX:
        raise RegionwiseError(
            f"{stage} part {part} of {run.name}",
            f"ended its worker process {DEATHS_MAX} times at none of its requests (out of memory, or killed)",
            "give workers more memory and start again: what is done is kept",
        )


def row_key(row: object) -> str:
    """What a marker calls a row that a stage takes in."""
    if isinstance(row, Sample):
        return row.key
    return row.place if isinstance(row, PlannedLine) else str(row)


def given_up(row: object, stage: str) -> Rejection:
    """The reject of a row that ended its worker process again and again."""
    fault = f"ended the worker process at it {DEATHS_MAX} times (out of memory, or killed)"
    if isinstance(row, Sample):
        detail = f"request {row.request.name!r} {fault}"
        return Rejection(key=row.key, name=row.request.name, stage=stage, reason=REASON, detail=detail, sample=row)
    name = line_name(row) if isinstance(row, PlannedLine) else row_key(row)
    return Rejection(key=name, name=name, stage=stage, reason=REASON, detail=f"request {name!r} {fault}")


def work_of(run: Path, pids: Collection[int]) -> str:
    """What processes that are gone were working on, in words; empty where no marker tells."""
    units = []
    for stage in STAGES:
        for path in sorted((run / stage).glob("part-*.working.json")):
            marker = read_marker(path)
            if marker and marker.pid in pids and marker.working is not None:
                units.append(_in_words(run, stage, int(path.name[5:10]), marker.working))
    return "; ".join(units)


def _in_words(run: Path, stage: str, part: int, keys: tuple[str, ...]) -> str:
    unit = f"{stage} part {part}"
    if not keys:
        return unit
    more = f" or {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"request {_request_name(run, stage, part, keys[0])!r}{more} of {unit}"


def _request_name(run: Path, stage: str, part: int, key: str) -> str:
    """The name of a row's request; the key itself where the rows cannot be read."""
    before = STAGES.index(stage) - 1
    with suppress(RegionwiseError):
        if before >= 0:
            return next((row.request.name for row in read_kept(run, STAGES[before], part) if row.key == key), key)
    return key
