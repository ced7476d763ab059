"""The command `regionwise train-policy`: trainings as processes of their own, one and two of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flows.train_policy import PolicyTraining, train_policy_and_show, train_policy_of_run
from flows.train_reward import TrainingFailed
from runtime.locks import locked
from tests.cases.tiny_policy import plain_run, quick, random_tiny
from training.checkpoint import read_tensors

#: Three requests and three tested ones, which two processes cannot share evenly.
UNEVEN = {"requests": 3, "evaluation_requests": 3, "beta_edit": 0.1, "beta_background": 0.1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_run(tmp_path_factory.mktemp("plain") / "run")


def test_a_policy_is_trained_and_what_became_of_it_is_one_object(
    base: Path, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = PolicyTraining(name="first", settings=quick(base, **UNEVEN))
    train_policy_and_show(run, training, as_json=True)
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    assert found["policy"] == str(run / "policy" / "first")
    told = {row["what"]: row for row in found["evaluation"]["figures"]}
    assert (found["updates"], found["evaluation"]["first"], found["evaluation"]["second"]) == (
        2, "tiny before", "tiny after 2 updates",
    )  # fmt: skip
    assert told["region_phi"]["n"] == found["evaluation"]["n_requests"]
    assert [line for line in printed.err.splitlines() if line.startswith("update 2 of 2: region reward")]
    train_policy_and_show(run, training, as_json=False)
    shown = capfd.readouterr().out
    assert f"{told['region_phi']['second']['value']:.3f}" in shown
    assert json.loads((run / "policy/first/policy.json").read_bytes())["updates"] == 2


def test_what_two_processes_find_wrong_is_said_once_and_comes_with_its_exit_code(base: Path, run: Path) -> None:
    said: list[str] = []
    training = PolicyTraining("bad", settings=quick(base, policy="klein"), processes=2)
    with pytest.raises(TrainingFailed, match=r"klein.*does not say where it is") as error:
        train_policy_of_run(run, training, said.append)
    assert error.value.exit_code == 2
    assert said == []


def test_a_policy_that_is_being_trained_is_not_trained_twice(base: Path, run: Path) -> None:
    with locked(run / "policy" / "held"), pytest.raises(TrainingFailed, match="is in use by process") as error:
        train_policy_of_run(run, PolicyTraining(name="held", settings=quick(base)), print)
    assert error.value.exit_code == 1


def test_two_processes_train_what_one_does_and_say_it_once(base: Path, run: Path) -> None:
    together: list[str] = []
    one = train_policy_of_run(run, PolicyTraining("first", settings=quick(base, **UNEVEN)), print)
    two = train_policy_of_run(run, PolicyTraining("two", settings=quick(base, **UNEVEN), processes=2), together.append)
    assert one["evaluation"]["figures"] == two["evaluation"]["figures"]
    rows = [json.loads(line) for line in (run / "policy/first/figures.jsonl").read_text().splitlines()]
    assert [line for line in together if line.startswith("update")] == [
        f"update {n} of 2: region reward {row['reward/region']:.4f}" for n, row in enumerate(rows, 1)
    ]
    adapters = [read_tensors(run / "policy" / name / "adapter.safetensors", "train anew") for name in ("first", "two")]
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(tensor, adapters[1][name], rtol=0, atol=1e-6)
    assert any(bool(tensor.any()) for name, tensor in adapters[0].items() if "lora_B" in name)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_freed_memory_is_kept_for_the_next_tensors() -> None:
    """In a process of its own: 64 MiB freed stay in the heap, where malloc would have given them back at once."""
    program = (
        "import os\nimport numpy as np\nfrom training.policy.processes.memory import keep_memory\n"
        "def held():\n return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') >> 20\n"
        "kept = keep_memory()\nbefore = held()\nnp.ones(8 << 20)\nprint(kept, held() - before)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout.split()
    assert said[0] == "True"
    assert int(said[1]) > 48
