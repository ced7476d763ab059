"""What is struck: a command, what it starts from, how far it is, and what it shall have made in the end."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.dataset.verify import verify
from runtime.files import TEMPORARY_PREFIX
from tests.chaos.processes import Broken
from tests.integration.builds import tars

#: What a manifest has of the moment and the machine.
_OF_THE_MOMENT = ("created_at", "digest", "card_sha256", "build")


@dataclass(frozen=True)
class Command:
    """One command of `regionwise`, in a folder `place` that may be moved: its run is `place/run`.

    prepare: fills the empty folder. words: its arguments. progress: how far it is, for as long as it works. kept: how
    much of its work is safe, which may never fall; raises where what readers count on is damaged. made: what is there
    in the end, alike however it came about. moments: how much further than at its start it is struck, time after time.
    tight_bytes: room on a disk that is too small for it; None where it looks for more before it begins. takes_up: the
    arguments of another command that goes on with its work.
    """

    name: str
    prepare: Callable[[Path], None]
    words: Callable[[Path], list[str]]
    progress: Callable[[Path], int]
    kept: Callable[[Path], int]
    made: Callable[[Path], object]
    moments: tuple[int, ...]
    tight_bytes: int
    takes_up: Callable[[Path], list[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def as_typed(words: list[str]) -> list[str]:
    """A command of `regionwise` as a process is started with."""
    return [sys.executable, "-m", "flows.cli", *words]


def whole(place: Path, made: Callable[[Path], object]) -> object:
    """What a command made. Raises: Broken where something half written lies about."""
    left = [path for path in place.rglob("*") if path.name.startswith(TEMPORARY_PREFIX) or path.match(".dataset-*")]
    if left:
        raise Broken(f"it left {left[0].name} behind")
    return made(place)


def dataset_of(run: Path) -> dict[str, object]:
    """A dataset's bytes: its tars by sha256, and its manifest but for when and where it was made. Raises: Broken."""
    manifest = json.loads((run / "dataset/manifest.json").read_bytes())
    rest = {name: value for name, value in manifest.items() if name not in _OF_THE_MOMENT}
    rest["settings"] = manifest["build"]["config_digest"]
    return {"tars": tars(run), "manifest": rest, "rows": sound_rows(run)}


def sound_rows(run: Path) -> int:
    """The rows of a run's dataset, -1 where it has none. Raises: Broken where the dataset is damaged."""
    if not (run / "dataset/manifest.json").is_file():
        return -1
    manifest, faults = verify(run / "dataset")
    if faults:
        raise Broken(f"the dataset is damaged: {faults[0].shard}: {faults[0].fault}")
    return manifest.rows


def counter_of(state: Path, name: str) -> int:
    """How far the last checkpoint of a training is, -1 where there is none."""
    try:
        return int(json.loads(state.read_bytes())[name])
    except FileNotFoundError:
        return -1


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    return sha256(path.read_bytes()).hexdigest()


def without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A record without some of its fields."""
    return {name: value for name, value in fields.items() if name not in names}
