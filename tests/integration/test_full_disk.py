"""Commands on a disk that is full, at their start or in their middle: one line, and with room the same one goes on."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.builds import tars

#: Command and bytes that are free -> the file or folder that it names.
PLACES = {
    "build 0": r"run",
    "build 290000": r"run/(images|candidates|regions|gates)/.*",
    "build 600000": r"run/dataset",
    "build 750000": r"run/\.dataset-new/[a-z]+-\d+\.tar",
    "export 70000": r"run/dataset",
    "export 250000": r"run/\.dataset-new/[a-z]+-\d+\.tar",
    "report 70000": r"run/report\.html",
    "score 0": r"scores\.jsonl",
    "score 70000": r"pair\.png",
    "evaluate 0": r"run/reward",
    "evaluate 140000": r"run/reward/.*",
    "values 0": r"run/values\.jsonl",
    "values later": r"run/values\.jsonl",
}
WITH_ROOM = ("build with room", "status", "export with room", "evaluate with room", "values with room")


def test_a_full_disk_is_one_line_with_the_path_and_the_remedy_and_nothing_is_lost(
    tmp_path: Path, built_run: Path
) -> None:
    command = ["unshare", "-Urm", sys.executable, "-m", "tests.cases.full_disk_commands", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    for name, place in PLACES.items():
        said = found[name]["said"].strip()
        fault = r"(cannot be written: No space left on device|[\d,]+ bytes are needed and [\d,]+ are free on its disk)"
        line = rf"regionwise: {tmp_path}/{place}: {fault}; make room and start again: what is done is kept"
        assert re.fullmatch(line, said), (name, said)
        assert (found[name]["code"], found[name]["left"]) == (2, []), name
    assert {name: found[name]["code"] for name in WITH_ROOM} == dict.fromkeys(WITH_ROOM, 0)
    assert found["tars"] == tars(built_run)
