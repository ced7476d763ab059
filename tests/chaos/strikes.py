"""What goes wrong while a command works: each strike says what happened, and what was made in the end."""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.cases.small_disk import SmallDisk
from tests.chaos.command import Command, as_typed, whole
from tests.chaos.processes import Broken, Ended, Started, start

#: Room for a line of a log, for no file of a training.
LITTLE_BYTES = 4_096
#: (what happened, what the command made)
Struck = tuple[str, object]
Strike = Callable[[Command, Path], Struck]


def begin(command: Command, place: Path) -> Started:
    """Starts a command in its folder."""
    return start(as_typed(command.words(place)), command.environment)


def unharmed(command: Command, place: Path) -> object:
    """What a command makes that nothing befalls."""
    command.prepare(place)
    begin(command, place).end().require_done()
    return whole(place, command.made)


def _signalled(number: int) -> Strike:
    def strike(command: Command, place: Path) -> Struck:
        command.prepare(place)
        hits = [_hit(command, place, number, moment) for moment in command.moments]
        begin(command, place).end().require_done()
        return f"{', '.join(hits)}, ended well", whole(place, command.made)

    return strike


def _hit(command: Command, place: Path, number: int, moment: int) -> str:
    """Starts a command and sends it a signal once it is `moment` further. Raises: Broken as `_require_safe`."""
    before, reached = command.kept(place), command.progress(place) + moment
    started = begin(command, place)
    is_hit = started.await_progress(lambda: command.progress(place), reached)
    started.send(number)
    ended = started.end()
    _require_safe(command, place, before)
    if not ended.is_told():
        raise Broken(f"exit code {ended.code}, a traceback: {ended.said[-1_500:]}")
    if not is_hit:
        ended.require_done()
    return f"{signal.Signals(number).name} at {moment}" if is_hit and ended.code else "ended before it was hit"


def _require_safe(command: Command, place: Path, before: int) -> None:
    """Raises: Broken where less is done than before, or what readers count on is damaged."""
    after = command.kept(place)
    if after < before:
        raise Broken(f"of {before} done only {after} are left")


def full_disk(command: Command, place: Path) -> Struck:
    """The same command on a disk that is too small at the start, that fills in mid-work, and that has room."""
    with SmallDisk(place) as disk:
        seen = disk.seen
        command.prepare(seen)
        before = command.kept(seen)
        disk.leave(command.tight_bytes)
        said = [_full(command, seen, disk, _started_within(command, disk).end(), before)]
        before, reached = command.kept(seen), command.progress(seen) + command.moments[0]
        started = _started_within(command, disk)
        if started.await_progress(lambda: command.progress(seen), reached):
            disk.leave(LITTLE_BYTES)
        said.append(_full(command, seen, disk, started.end(), before))
        _started_within(command, disk).end().require_done()
        return f"{'; '.join(said)}; with room it ended well", whole(seen, command.made)


def _started_within(command: Command, disk: SmallDisk) -> Started:
    return start([*disk.within(), *as_typed(command.words(disk.place))], command.environment)


def _full(command: Command, seen: Path, disk: SmallDisk, ended: Ended, before: int) -> str:
    """What a command said of a full disk. Raises: Broken where that is not the path and to make room."""
    disk.make_room()  # reading may need some
    if ended.code == 0:
        return "had room enough"
    line = ended.line()
    if str(disk.place) not in line or "make room" not in line:
        raise Broken(f"does not say where room is to be made: {line}")
    _require_safe(command, seen, before)
    return f"said {line.replace(str(disk.place), '.')!r}"


def moved(command: Command, place: Path) -> Struck:
    """Killed, its folder renamed; once more; then gone on with by `takes_up` where there is such a command."""
    command.prepare(place)
    hits = []
    for number, moment in enumerate(command.moments):
        hits.append(_hit(command, place, signal.SIGKILL, moment))
        before, place = command.kept(place), place.rename(place.with_name(f"{place.name}-{number}"))
        _require_safe(command, place, before)
    words = (command.takes_up or command.words)(place)
    start(as_typed(words), command.environment).end().require_done()
    return f"{', moved, '.join(hits)}, moved, ended well", whole(place, command.made)


def second_process(command: Command, place: Path) -> Struck:
    """The same command twice at once: one may refuse, with a line, and one ends well."""
    command.prepare(place)
    both = [begin(command, place) for _ in range(2)]
    ends = [started.end() for started in both]
    failed = [end for end in ends if end.code]
    if len(failed) == 2:
        raise Broken(f"neither ended well: {'; '.join(end.said[-700:] for end in ends)}")
    what = f"one said {failed[0].line().replace(str(place), '.')!r}" if failed else "both ended well"
    return what, whole(place, command.made)


STRIKES: dict[str, Strike] = {
    "kill -9": _signalled(signal.SIGKILL),
    "SIGTERM": _signalled(signal.SIGTERM),
    "full disk": full_disk,
    "moved folder": moved,
    "second process": second_process,
}
