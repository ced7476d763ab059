"""Puts in one-line faults that another hand wrote, one at a time, and asks whether the suite finds them: `make faults`.

`faults.json` lists them: file, the line as it stands (`old`) and with the fault (`new`), what goes wrong for whom, and
the test that is known to find it (`test`; null where none does). A fault whose test passes all the same, or whose line
is no longer there, is said and ends with exit code 1: what was tested must stay tested when code is moved or tests are
made faster. It works in a copy of the checkout and changes nothing here.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from runtime.checkout import CHECKOUT

FAULTS = Path(__file__).with_name("faults.json")


def main(wanted: list[str]) -> int:
    """Runs the faults of these ids, all without any; the exit code."""
    faults = [fault for fault in json.loads(FAULTS.read_text()) if not wanted or fault["id"] in wanted]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "--quiet", "--shared", str(CHECKOUT), str(copy)], check=True)
        said = [_outcome(copy, fault) for fault in faults]
    for fault, outcome in zip(faults, said, strict=True):
        print(f"{fault['id']} {outcome}: {fault['file']}: {fault['what']}")
    found, lost = said.count("found"), sum(outcome not in ("found", "known to slip") for outcome in said)
    print(f"{found} of {len(said)} faults found, {said.count('known to slip')} known to slip, {lost} lost")
    return 1 if lost else 0


def _outcome(copy: Path, fault: dict[str, str | None]) -> str:
    """`found`, `known to slip` where no test is named, `NOT FOUND`, or `LINE IS GONE`."""
    path = copy / str(fault["file"])
    text = path.read_text() if path.is_file() else ""
    lines = [number for number, line in enumerate(text.split("\n")) if line == fault["old"]]
    if len(lines) != 1:
        return "LINE IS GONE"
    if fault["test"] is None:
        return "known to slip"
    changed = text.split("\n")
    changed[lines[0]] = str(fault["new"])
    path.write_text("\n".join(changed))
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(fault["test"])]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        code = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False).returncode
    finally:
        path.write_text(text)
    return {0: "NOT FOUND", 1: "found"}.get(code, f"NOT RUN (pytest's exit code {code})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
