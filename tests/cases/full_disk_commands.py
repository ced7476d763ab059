"""Commands on a disk that really is full, a tmpfs in a mount namespace of its own: prints what each said, as JSON.

`unshare -Urm python -m tests.cases.full_disk_commands PLACE`
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

SIZE_BYTES = 64 << 20
BUILD = ("--scenes", "10", "--scene-size-px", "64", "--part-requests", "4", "--k", "3", "--shard-samples", "6")


class Disk:
    """A tmpfs at `place`."""

    def __init__(self, place: Path) -> None:
        self.place, self._filler = place, place / "filler"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)], check=True)

    def leave(self, n_bytes: int) -> None:
        """Fills the disk but for so much."""
        self._filler.unlink(missing_ok=True)
        state = os.statvfs(self.place)
        with self._filler.open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, state.f_bavail * state.f_frsize - n_bytes)

    def make_room(self) -> None:
        """Empties it of what fills it."""
        self._filler.unlink(missing_ok=True)


def ended(work: Callable[[], object]) -> dict[str, Any]:
    """The exit code of a command and what it said on stderr."""
    said, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
        try:
            code = work()
        except SystemExit as error:
            code = error.code
    return {"code": code, "said": said.getvalue()}


def regionwise(*arguments: object) -> dict[str, Any]:
    from flows.cli import main

    return ended(lambda: main([str(argument) for argument in arguments]))


def main(place: Path) -> dict[str, dict[str, Any]]:
    """Runs every command with too little room at its start or in its middle, and again with room."""
    from pipeline.run.folder import read_kept
    from pipeline.run.image_store import read_image_bytes
    from tests.integration.builds import tars
    from training.evaluation import run as evaluation
    from training.scoring import uncertainty

    disk, run, found = Disk(place), place / "run", dict[str, dict[str, Any]]()

    def short_of_room(name: str, n_bytes: int, work: Callable[[], dict[str, Any]]) -> None:
        """The command with so much room, then with room, and whether it left anything half written."""
        disk.leave(n_bytes)
        found[name] = work()
        found[name]["left"] = [path.name for path in place.rglob(".tmp-*")]
        disk.make_room()

    build = ("build", "--run", run, *BUILD, "--seed", "3", "--workers", "1")
    for n_bytes in (0, 290_000, 600_000, 750_000):
        short_of_room(f"build {n_bytes}", n_bytes, lambda: regionwise(*build))
    found["build with room"] = regionwise(*build)
    disk.leave(0)
    found["status"] = regionwise("status", run)
    disk.make_room()

    export = ("export", "--run", run, "--scores", "oracle", "--workers", "1")
    short_of_room("export 70000", 70_000, lambda: regionwise(*export))
    with mock.patch("pipeline.dataset.export.least_bytes", return_value=0):  # somebody fills it meanwhile
        short_of_room("export 250000", 250_000, lambda: regionwise(*export))
    found["export with room"] = regionwise(*export)

    short_of_room("report 70000", 70_000, lambda: regionwise("report", run))
    sample = next(read_kept(run, "gates", 0))
    for name, ref in (("source.png", sample.sources[0]), ("edited.png", sample.edited)):
        assert ref is not None
        (place / name).write_bytes(read_image_bytes(run, ref))
    score = (
        "score",
        "--source",
        place / "source.png",
        "--edited",
        place / "edited.png",
        "--instruction",
        "Make it red",
    )
    score += ("--box", "1,1,9,9", "--reward", "pixel-difference")
    short_of_room("score 0", 0, lambda: regionwise(*score, "--out", place / "scores.jsonl"))
    short_of_room("score 70000", 70_000, lambda: regionwise(*score, "--picture", place / "pair.png"))

    reward = ["--reward", "pixel-difference", "--out"]
    evaluate = [*reward, str(run / "reward"), "--sources", "4"]
    short_of_room("evaluate 0", 0, lambda: ended(lambda: evaluation.main(evaluate)))
    short_of_room("evaluate 140000", 140_000, lambda: ended(lambda: evaluation.main(evaluate)))
    found["evaluate with room"] = ended(lambda: evaluation.main(evaluate))
    values = ["--run", str(run), *reward, str(run / "values.jsonl")]
    short_of_room("values 0", 0, lambda: ended(lambda: uncertainty.main(values)))
    with mock.patch("training.scoring.uncertainty.require_place"):
        short_of_room("values later", 0, lambda: ended(lambda: uncertainty.main(values)))
    found["values with room"] = ended(lambda: uncertainty.main(values))
    found["tars"] = tars(run)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
