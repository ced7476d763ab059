"""A command that is killed with SIGKILL leaves no training running: every process of it ends by itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from runtime.checkout import CHECKOUT
from tests.cases.tiny_policy import plain_run, quick, random_tiny


def gone(processes: Sequence[psutil.Process], timeout_s: float = 60) -> bool:
    """Whether all of them end in time."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    for process in alive:
        process.kill()
    return not alive


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_killed_train_policy_leaves_no_training(tmp_path: Path, processes: int) -> None:
    base, run = random_tiny(tmp_path / "tiny"), plain_run(tmp_path / "run")
    command = [sys.executable, "-m", "flows.cli", "train-policy", "--run", str(run), "--processes", str(processes)]
    for setting in quick(base, updates=10_000):
        command += ["--set", setting]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        first = next((line for line in started.stderr if line.startswith("update 1 of")), None)
        children = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(signal.SIGKILL)
    assert first is not None
    assert len(children) >= (1 if processes == 1 else 3)
    assert gone(children)


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_child_that_will_not_end_is_ended(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    code = (
        "import subprocess, time\nfrom runtime.child import child_command\n"
        "subprocess.Popen(child_command('stubborn'), start_new_session=True)\ntime.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        assert parent.stdout.readline() == "asked\n"
        assert gone([child])
