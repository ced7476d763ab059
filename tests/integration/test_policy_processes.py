"""A policy's training as its own processes: killed again and again, two at a time, and with a reward that hangs.

Real processes, real SIGKILLs.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runtime.child import child_command
from runtime.processes import free_port
from tests.cases.judge_server import JudgeServer, Reply
from tests.cases.policy_loop_cases import learnt, small
from training.policy.train import train_policy


@pytest.fixture
def given(plain_dataset: Path, random_policy: Path) -> tuple[Path, Path]:
    """(dataset of plain scenes, tiny policy with random weights)."""
    return plain_dataset, random_policy


def command(given: tuple[Path, Path], out: Path, processes: int, changes: dict[str, Any]) -> list[str]:
    """The training's command line: as `regionwise train-policy` starts it, or several with torch's own launcher."""
    config = small(*given, **changes).model_dump(mode="json")
    settings = [f"{name}={json.dumps(value)}" for name, value in config.items() if value is not None]
    arguments = ["--out", str(out), *(word for setting in settings for word in ("--set", setting))]
    if processes == 1:
        return child_command("training.policy.train", *arguments)
    launcher = ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
    launcher += ["--master-port", str(free_port()), "-m", "training.policy.train"]
    return [sys.executable, "-m", *launcher, *arguments]


def trained(given: tuple[Path, Path], out: Path, **changes: Any) -> dict[str, Any]:
    """Runs a training to its end in this process; its `training/state.json`."""
    train_policy(small(*given, **changes), out)
    return dict(json.loads((out / "training/state.json").read_bytes()))


def started(given: tuple[Path, Path], out: Path, processes: int, **changes: Any) -> dict[str, Any]:
    """As `trained`, in processes of its own."""
    arguments = command(given, out, processes, changes)
    answer = subprocess.run(arguments, capture_output=True, text=True, timeout=500, check=False, env=environment())
    assert answer.returncode == 0, answer.stderr[-3_000:]
    return dict(json.loads((out / "training/state.json").read_bytes()))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}


def updates_of(out: Path) -> int:
    """Updates in the last checkpoint, -1 where there is none."""
    try:
        return int(json.loads((out / "training/state.json").read_bytes())["update"])
    except FileNotFoundError:
        return -1


def killed(given: tuple[Path, Path], out: Path, chance: random.Random, changes: dict[str, Any]) -> tuple[int, int]:
    """Starts the training and kills it some moments after its next checkpoint; (exit code, updates kept)."""
    before = updates_of(out)
    with subprocess.Popen(command(given, out, 1, changes), stderr=subprocess.DEVNULL, env=environment()) as process:
        while updates_of(out) <= before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2.5))
        process.kill()
        process.wait(60)
    return process.returncode, updates_of(out)


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_weights(
    given: tuple[Path, Path], tmp_path: Path, kills: int
) -> None:
    changes = {"updates": 3 * kills, "checkpoint_every": 1, "evaluate_every": 2, "beta_edit": 0.01, "passes": 2}
    changes |= {"beta_background": 0.02, "sheet_every": 3}
    whole, out, chance = tmp_path / "whole", tmp_path / "killed", random.Random(kills)
    trained(given, whole, **changes)
    hits = [killed(given, out, chance, changes) for _ in range(kills)]
    print(f"\n(exit code, updates in the checkpoint) of each kill: {hits}")
    assert [code for code, _ in hits].count(-9) >= kills - 1
    started(given, out, 1, **changes)
    assert learnt(out) == learnt(whole)
    assert (out / "figures.jsonl").read_text().count("\n") == 3 * kills
    assert not list(out.glob("training/state-*.safetensors"))[1:]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"requests": 3, "group": 2, "evaluation_requests": 3, "beta_edit": 0.1, "beta_background": 0.1},
            id="uneven",
            marks=pytest.mark.slow,  # `test_train_policy` has the short form
        ),
        pytest.param(
            {"requests": 3, "optimizer_steps": 3, "evaluation_requests": 1, "control": "permuted-advantages"},
            id="one process idle",
            marks=pytest.mark.slow,
        ),
        pytest.param({"requests": 4, "method": "global", "sample_batch": 2}, id="whole image", marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_does(given: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = changes | {"updates": 1}
    one, two = trained(given, tmp_path / "1", **changes), started(given, tmp_path / "2", 2, **changes)
    ours, theirs = (load_file(tmp_path / str(n) / "training/state-000001.safetensors") for n in (1, 2))
    gradients = [name for name in ours if name.endswith("/exp_avg")]
    largest = max(float(ours[name].abs().max()) for name in gradients)
    assert largest > 0
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in gradients) < 1e-5 * largest
    (row,), (other) = one["history"], two["history"][0]
    same = [name for name in row if not name.endswith("_s") and not name.startswith(("kl/", "clip_"))]
    for name in same:
        assert other[name] == pytest.approx(row[name], rel=1e-3, abs=1e-6), name
    for tested, others in zip(one["trials"], two["trials"], strict=True):
        assert [each["request"] for each in tested["requests"]] == [each["request"] for each in others["requests"]]
        for name, value in tested["signals"].items():
            assert others["signals"][name] == (None if value is None else pytest.approx(value, rel=1e-3, abs=1e-6))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in theirs.values())


def test_a_reward_that_hangs_ends_the_process_with_one_line(given: tuple[Path, Path], tmp_path: Path) -> None:
    with JudgeServer() as server:
        server.behave = lambda _: Reply(stall=True)
        changes = {"reward": f"endpoint:{server.url}", "reward_timeout_s": 1.0, "evaluation_requests": 1}
        arguments = command(given, tmp_path / "policy", 1, changes)
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stderr is not None
            try:
                line = next(line for line in process.stderr if line.startswith("regionwise: "))
                assert process.wait(60) == 1
            finally:
                process.kill()
    assert "is missing 100% of rewards in update 1: reward " in line
    assert "did not answer within 1 s; 6 images unscored; mend the reward, go on" in line
