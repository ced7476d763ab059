"""Around a training of `regionwise train-policy`: a log that comes as it is written, and an end with the call."""

import json
import sys
from pathlib import Path

import psutil
import pytest

from flows.train_policy import PolicyTraining, figures, follow, outcome, train_policy_of_run
from flows.train_reward import TrainingFailed
from runtime.checkout import CHECKOUT
from schemas.errors import BadInput
from training.policy.held_out_evaluation import CaseResult, progress
from training.policy.processes.launch import LOOPBACK, launch, rank_environment


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time\n{code}", *arguments]


def test_a_run_or_a_name_that_is_none_starts_no_process(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(BadInput, match=r"name '\.\./x': is no name of a folder"):
        train_policy_of_run(tmp_path, PolicyTraining(name="../x"), said.append)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        train_policy_of_run(tmp_path, PolicyTraining(), said.append)
    assert said == []


def test_lines_come_while_the_process_works(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = (
        "print('first', file=sys.stderr, flush=True)\nend = time.time() + 60\n"
        "while not os.path.exists(sys.argv[1]):\n    time.sleep(.01)\n    assert time.time() < end, 'nobody heard'\n"
    )
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        gate.touch()

    follow(python(code + "print('last\\x1b[2J', file=sys.stderr); print('result')", str(gate)), tmp_path, say)
    assert lines == ["first", "last [2J"]


@pytest.mark.parametrize(("code", "given"), [(1, 1), (2, 2), (3, 3), (7, 1)])
def test_an_exit_code_says_what_failed(tmp_path: Path, code: int, given: int) -> None:
    with pytest.raises(TrainingFailed, match=f"exit code {code}") as error:
        follow(python(f"sys.exit({code})"), tmp_path, print)
    assert error.value.exit_code == given
    with pytest.raises(TrainingFailed, match="the dog: ate it; buy another") as error:
        follow(
            python(f"sys.exit(print('regionwise: the dog: ate it; buy another', file=sys.stderr) or {code})"),
            tmp_path,
            print,
        )
    assert error.value.exit_code == given


def test_an_interrupted_process_is_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        follow(python("sys.exit(130)"), tmp_path, print)


def test_no_process_outlives_the_call(tmp_path: Path) -> None:
    started: list[int] = []
    code = (
        "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, file=sys.stderr, flush=True)\ntime.sleep(600)"
    )

    def say(line: str) -> None:
        started.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(python(code), tmp_path, say)
    assert len(started) == 2
    assert [pid for pid in started if _lives(pid)] == []


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_figure_that_is_missing_is_a_dash(tmp_path: Path) -> None:
    there = CaseResult("a", (0.125, 0.375), (0.25, 0.25), None)
    told = progress([there], [there], names=("before", "after"), split="test", scorer="oracle", synthetic=True)
    (tmp_path / "evaluation.json").write_text(told.model_dump_json())
    (tmp_path / "policy.json").write_text(json.dumps({"updates": 3, "stopped": ""}))
    shown = {row[0]: row[1:] for row in figures(outcome(tmp_path))}
    assert shown["region_reward"] == ("0.250 [0.250, 0.250]", "0.250 [0.250, 0.250]", "0.000 [0.000, 0.000]")
    assert shown["background"] == ("-", "-", "-")


@pytest.mark.timeout(120)
def test_one_process_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The processes are stand-ins: the first waits for long, the second fails."""
    stand_in = tmp_path / "training" / "policy" / "processes"
    stand_in.mkdir(parents=True)
    code = "import os, sys, time\ntime.sleep(600) if os.environ['RANK'] == '0' else sys.exit(2)\n"
    for file, text in (
        (stand_in / "launch.py", code),
        (stand_in / "__init__.py", ""),
        (stand_in.parent / "__init__.py", ""),
        (stand_in.parent.parent / "__init__.py", ""),
    ):
        file.write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{CHECKOUT}")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert launch(2, []) == 2
    module = "training.policy.processes.launch"
    assert [child for child in psutil.Process().children() if module in " ".join(child.cmdline())] == []


def test_processes_speak_on_loopback_and_meet_in_a_file(tmp_path: Path) -> None:
    told = rank_environment(1, 2, tmp_path / "store")
    assert (told["RANK"], told["LOCAL_RANK"], told["WORLD_SIZE"]) == ("1", "1", "2")
    assert {told["GLOO_SOCKET_IFNAME"], told["NCCL_SOCKET_IFNAME"]} == {LOOPBACK}
    assert told["REGIONWISE_STORE"] == str(tmp_path / "store")


def test_the_folder_of_a_training_is_named_once() -> None:
    said = TrainingFailed("runs/a/policy/x", 1, "runs/a/policy/x: is in use by process 7; wait for it or end it")
    assert str(said) == "runs/a/policy/x: is in use by process 7; wait for it or end it"
