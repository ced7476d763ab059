"""Installed packages that offer editors, and two editors.

`inverter` inverts the image's colours and refuses one candidate; `watched` writes down in its folder that its module
was imported and that it was loaded.
"""

from pathlib import Path

from schemas.record import short_hash

INVERTER = """
import numpy as np
from pipeline.editors.protocol import CannotEdit, Edit
from schemas.errors import BadInput


class Inverter:
    name, revision, synthetic = "inverter", "7", True

    def __init__(self, refused):
        self.refused = refused

    def edit(self, request, sources, index, seed):
        if index == self.refused:
            raise CannotEdit("not_this_one", f"candidate {index}")
        image = sources[0].copy()
        image[: 20 + index] = 255 - image[: 20 + index]
        return Edit(image=np.ascontiguousarray(image), seed=seed, parameters={"strength": 1.0})


def make(place, device):
    if place is None or not place.isdecimal():
        raise BadInput("editor inverter", f"has no place {place}", "give a number")
    return Inverter(int(place))
"""


WATCHED = """
from pathlib import Path
from pipeline.editors.protocol import Edit

PLACE = Path({place!r})
(PLACE / "imported").touch()


class Watched:
    name, revision, synthetic = "watched", "1", True

    def edit(self, request, sources, index, seed):
        image = sources[0].copy()
        image[:20] = 255 - image[:20]
        return Edit(image=image, seed=seed, parameters={{}})


def make(place, device):
    (PLACE / "loaded").touch()
    return Watched()
"""
WATCHED_FILES = """
from pathlib import Path

def files(place):
    return [Path(place) / "weights.bin"]
"""


STAND_IN = """
import os
import signal
import time
from pathlib import Path

import numpy as np

from pipeline.editors.protocol import Edit

NOTES = Path({notes!r})


def note(line):
    with (NOTES / "notes.txt").open("a") as file:
        file.write(line + "\\n")


class StandIn:
    name, revision, synthetic = "stand-in", "1", True

    def edit(self, request, sources, index, seed):
        misdeed = NOTES / "misdeed"
        if misdeed.exists():
            what = misdeed.read_text()
            if what == "die once":
                misdeed.unlink()
            if what.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "hang":
                time.sleep(1_000)
            if what == "raise":
                raise ValueError("an odd one\\nand its second line")
            if what == "answer NaN":
                return Edit(image=np.full(sources[0].shape, np.nan), seed=seed, parameters={{}})
        time.sleep({seconds!r})
        image = sources[0].copy()
        image[: 20 + 4 * index] = 255 - image[: 20 + 4 * index]
        return Edit(image=image, seed=seed, parameters={{}})


def make(place, device):
    note(f"loaded on {{device}}")
    return StandIn()
"""


def offer_stand_in(folder: Path, notes: Path, seconds: float = 0.0) -> Path:
    """An installed package with the editor `stand-in`, which takes `seconds` for an edit and keeps a note of each load.

    What a file `misdeed` in `notes` says it does instead: die, die once, hang, raise, answer NaN.
    """
    offer(folder, "stand-ins", {"stand-in": "stand_in_of_tests:make"})
    (folder / "stand_in_of_tests.py").write_text(STAND_IN.format(notes=str(notes), seconds=seconds))
    notes.mkdir(parents=True, exist_ok=True)
    return folder


def loads_noted(notes: Path) -> list[str]:
    """The devices on which a stand-in was loaded, sorted."""
    text = (notes / "notes.txt").read_text() if (notes / "notes.txt").is_file() else ""
    return sorted(line.removeprefix("loaded on ") for line in text.splitlines())


def offer(
    folder: Path, name: str, editors: dict[str, str], files: dict[str, str] | None = None, version: str = "1.0"
) -> Path:
    """An installed package without a file: metadata that offers editors. On `sys.path`, `folder` makes them known."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = {"regionwise.editors": editors, "regionwise.editor_files": files or {}}
    lines = [
        f"[{group}]\n" + "".join(f"{one} = {at}\n" for one, at in offered.items()) for group, offered in groups.items()
    ]
    (metadata / "entry_points.txt").write_text("".join(lines))
    return folder


def offer_watched(folder: Path, place: Path) -> Path:
    """An installed package with the editor `watched`, whose answers come from `place`/weights.bin alone.

    Its module has a name of its own for each place: a process imports a name once.
    """
    module = f"watched_of_tests_{short_hash(str(place))}"
    offer(folder, "watched", {"watched": f"{module}:make"}, {"watched": "watched_files_of_tests:files"})
    (folder / f"{module}.py").write_text(WATCHED.format(place=str(place)))
    (folder / "watched_files_of_tests.py").write_text(WATCHED_FILES)
    place.mkdir(parents=True, exist_ok=True)
    (place / "weights.bin").write_bytes(b"weights")
    return folder


def offer_inverter(folder: Path) -> Path:
    """An installed package with the editor `inverter`, and `gone`, which it names and has not."""
    offer(folder, "inverters", {"inverter": "inverter_of_tests:make", "gone": "inverter_of_tests:nothing"})
    (folder / "inverter_of_tests.py").write_text(INVERTER)
    return folder


KILLER = """
import os
import signal

from pipeline.editors.protocol import Edit


class Killer:
    name, revision, synthetic = "killer", "1", True

    def __init__(self, names):
        self.names = names

    def edit(self, request, sources, index, seed):
        if request.name in self.names:
            os.kill(os.getpid(), signal.SIGKILL)
        image = sources[0].copy()
        image[: 20 + index] = 255 - image[: 20 + index]
        return Edit(image=image, seed=seed, parameters={})


def make(place, device):
    return Killer(place.split(","))
"""


def offer_killer(folder: Path) -> Path:
    """An installed package with the editor `killer`: at a request of the names in its place it kills its process."""
    offer(folder, "killers", {"killer": "killer_of_tests:make"})
    (folder / "killer_of_tests.py").write_text(KILLER)
    return folder
