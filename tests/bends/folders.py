"""Strikes on what the product wrote itself: files of a run that was stopped, of a finished one and of a dataset."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.bends.grounds import Grounds, build_words
from tests.bends.outcome import ONE_LINE, RIGHT, Struck
from tests.bends.typed import typed
from tests.cases.bending_files import FILE_KINDS
from tests.cases.bendings import Kind
from tests.chaos.processes import Broken

FILES = FILE_KINDS
HALF_COMMANDS = ("resume", "repair", "build", "status")
FINISHED_COMMANDS = ("resume", "repair", "export", "build", "status", "trace", "report")
READERS = ("status", "trace", "report")


@dataclass(frozen=True)
class _Bent:
    """A file that was bent, with what it takes to put it back."""

    path: Path
    data: bytes
    before: frozenset[Path]

    def put_back(self) -> None:
        """As it was, and nothing beside it that came with the bending."""
        for other in set(self.path.parent.iterdir()) - self.before:
            if other.name.startswith((".tmp-", ".DS", "Thumbs", "desktop", "~", "._", ".nfs", "lost", "kept-")) or (
                self.path.stem in other.name and other != self.path
            ):
                other.unlink()
        if self.path.is_symlink() or not self.path.is_dir():
            self.path.unlink(missing_ok=True)
        else:
            self.path.rmdir()
        self.path.write_bytes(self.data)


def _bend(folder: Path, kind: Kind, chance: Random) -> _Bent:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    path = chance.choice(files)
    bent = _Bent(path, path.read_bytes(), frozenset(path.parent.iterdir()))
    kind.apply(path, chance)
    return bent


def strike_run(grounds: Grounds, finished: bool, kind: Kind, chance: Random) -> Struck:
    """Bends a file of a run folder, then goes on with it or reads it."""
    place = grounds.copy(grounds.finished if finished else grounds.half)
    command = chance.choice(FINISHED_COMMANDS if finished else HALF_COMMANDS)
    bent = _bend(place / "run", kind, chance)
    what = grounds.what = f"{bent.path.relative_to(place).as_posix()}, {command}"
    ended = typed(*_words(command, place))
    if ended.code == 0:
        ended.require_done()
        if command not in READERS:
            grounds.require_unbent(place / "run")
        return Struck(what, RIGHT)
    line = ended.line()
    if command == "repair" and not _is_lost(bent.path.relative_to(place / "run")) and "move it away" not in line:
        raise Broken(f"repair does not make it anew: {line}")
    if "regionwise repair" in line and "move it away" not in line:
        repaired = typed("repair", "--run", str(place / "run"))
        if repaired.code:
            raise Broken(f"said {line!r}, and repair {repaired.line()!r}")
        grounds.require_unbent(place / "run")
        return Struck(what, ONE_LINE, line)
    bent.put_back()
    typed(*_words(command, place)).require_done()
    if command not in READERS:
        grounds.require_unbent(place / "run")
    return Struck(what, ONE_LINE, line)


def _is_lost(path: Path) -> bool:
    """Whether a file is what all others are made from, or the note of who holds the folder."""
    return path.parts[0] in ("plan", "run.json", ".lock.json")


def _words(command: str, place: Path) -> list[str]:
    run = place / "run"
    words = {
        "build": build_words(run, place / "photos" / "requests.jsonl"),
        "status": ["status", str(run)],
        "trace": ["trace", str(run), "r1"],
        "report": ["report", str(run)],
    }
    return words.get(command, [command, "--run", str(run)])


def strike_dataset(grounds: Grounds, kind: Kind, chance: Random) -> Struck:
    """Bends a file of a dataset, alone or in its run; then it is verified, and repaired where it lies in its run."""
    place, alone = grounds.copy(grounds.finished), chance.random() < 0.3
    run, dataset = place / "run", place / "run" / "dataset"
    if alone:
        dataset = dataset.rename(place / "copied")
    before = _content(dataset)
    bent = _bend(dataset, kind, chance)
    what = grounds.what = f"{bent.path.name} of a dataset {'alone' if alone else 'in its run'}"
    ended = typed("verify", str(dataset))
    if ended.code not in (0, 1, 2):
        raise Broken(f"verify ended with {ended.code}")
    changed = _content(dataset) != before
    if changed == (ended.code == 0):
        raise Broken(f"verify says {ended.out or ended.said} of a dataset that is {'bent' if changed else 'as it was'}")
    said = _said(ended.out) if ended.out else ended.line() if ended.code else ""
    if not alone:
        repaired = typed("repair", "--run", str(run))
        if repaired.code:
            raise Broken(f"repair says {repaired.line()!r}")
        grounds.require_unbent(run)
    return Struck(what, ONE_LINE if ended.code else RIGHT, said)


def _said(out: str) -> str:
    return "; ".join(f"{one['shard']}: {one['fault']}" for one in json.loads(out)["errors"])


def _content(folder: Path) -> dict[str, str]:
    """What is in a folder, but for times and for how JSON is set."""
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*"))}


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no file"
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            data = json.dumps(json.loads(data)).encode()
        except ValueError:
            pass
    return sha256(data).hexdigest()
