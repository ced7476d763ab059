"""Puts in one-line faults that another hand wrote, one at a time, and asks whether the unit tests find them.

`make faults` tries all, `python -m tests.faults.run f07 f12` some. `faults.json` lists them: file, the line (`line` is
where it stood) as it is (`old`) and with the fault (`new`), and what goes wrong for whom. What was tested must stay
tested when code is moved or tests are made faster: the unit tests of the file's room are run on every fault, and all of
them, with the trainings of the integration tests, where those pass. It works in a copy of the last commit. Exit code 1
where a line is gone: nothing was asked then.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from runtime.checkout import CHECKOUT

FAULTS = Path(__file__).with_name("faults.json")
#: Trainings are slow, but start no process and no server.
ALL = ("tests/unit", "tests/integration/trainings")
TIMEOUT_S = 900


def main(wanted: list[str]) -> int:
    """Runs the faults of these ids, all without any; the exit code."""
    faults = [fault for fault in json.loads(FAULTS.read_text()) if not wanted or fault["id"] in wanted]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(CHECKOUT), str(copy)], check=True)
        for fault in faults:
            outcomes.append(_outcome(copy, fault))
            print(f"{fault['id']} {outcomes[-1]}: {fault['file']}: {fault['what']}", flush=True)
    print(f"{outcomes.count('found')} of {len(outcomes)} faults found")
    return 1 if "LINE IS GONE" in outcomes else 0


def _outcome(copy: Path, fault: dict[str, Any]) -> str:
    """`found`, `slips through`, or `LINE IS GONE`."""
    path = copy / fault["file"]
    text = path.read_text() if path.is_file() else ""
    lines = text.split("\n")
    places = [number for number, line in enumerate(lines) if line == fault["old"]]
    if not places:
        return "LINE IS GONE"
    lines[min(places, key=lambda number: abs(number + 1 - fault["line"]))] = fault["new"]
    path.write_text("\n".join(lines))
    try:
        found = _fails(copy, _tests_of(copy, fault["file"])) or _fails(
            copy, "tests/unit", "tests/integration/trainings"
        )
        return "found" if found else "slips through"
    finally:
        path.write_text(text)


def _tests_of(copy: Path, file: str) -> str:
    """The folder of the unit tests of a file's room, or the nearest above it."""
    folder = Path("tests/unit") / Path(file).parent
    while not (copy / folder).is_dir():
        folder = folder.parent
    return folder.as_posix()


def _fails(copy: Path, *tests: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
