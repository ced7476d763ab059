"""How processes end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.child import child_command

BUSY = """
import sys, threading, torch
from runtime.exits import leave

begun = threading.Event()

def work():
    matrix = torch.randn(300, 300)
    while True:
        matrix = (matrix @ matrix).clamp(-1, 1)
        begun.set()

if sys.argv[1] != "nobody":
    threading.Thread(target=work, name=sys.argv[1], daemon=True).start()
    begun.wait()
print("said", end="")
leave(3)
"""


@pytest.mark.parametrize("at_work", ["left reward", "nobody"])
def test_a_process_gives_its_exit_code_while_a_thread_is_in_a_library(at_work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY, at_work], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "said", "")


@pytest.mark.parametrize("code", ["print('x' * 100_000)", "print('x')"])
def test_a_child_whose_reader_is_gone_ends_without_a_traceback(tmp_path: Path, code: str) -> None:
    (tmp_path / "made.py").write_text(f"if __name__ == '__main__':\n    {code}\n")
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        child_command("made"),
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
