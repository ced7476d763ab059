"""How processes end."""

import subprocess
import sys

import pytest

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
