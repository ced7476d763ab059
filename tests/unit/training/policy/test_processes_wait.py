"""Processes of one training wait for each other for longer than a slow reward may keep one of them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cases.policy_loop_cases import small
from training.policy import train
from training.policy.processes.exchange import SLACK, longest_wait
from training.policy.processes.launch import rank_environment, train_rank


def wait(**changes: object) -> timedelta:
    fields: dict[str, object] = {"requests": 3, "group": 5, "sample_batch": 4, "evaluation_requests": 9}
    return longest_wait(small(Path("d"), Path("p"), **fields | {"reward_timeout_s": 600.0} | changes))


def test_the_wait_is_for_every_batch_that_a_process_may_ask_for() -> None:
    assert wait() == SLACK + (3 * 2 + 3) * timedelta(minutes=10)
    assert wait(second_reward="constant:5") == SLACK + (3 * 2 + 2 * 3) * timedelta(minutes=10)
    assert wait(reward_timeout_s=1.0) == SLACK + 9 * timedelta(seconds=1)


def test_a_process_of_torchrun_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parents: list[int] = []
    monkeypatch.setattr(train, "end_with", parents.append)
    monkeypatch.setattr(train, "train_policy", lambda *_: {})
    arguments = ["--out", str(tmp_path / "out"), "--set", "dataset=d"]
    assert train.main(arguments) == 0
    assert parents == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert train.main(arguments) == 0
    assert parents == [os.getppid()]


def test_a_rank_joins_a_group_that_waits_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[timedelta] = []

    def look(*_: Any) -> dict[str, Any]:
        group = torch.distributed.distributed_c10d._get_default_group()
        found.append(group._get_backend(torch.device("cpu")).options._timeout)
        return {}

    monkeypatch.setattr(train, "train_policy", look)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in rank_environment(0, 1, tmp_path / "store").items():
        monkeypatch.setitem(os.environ, name, value)
    settings = ("dataset=d", "reward_timeout_s=3600", "requests=2", "evaluation_requests=1")
    assert train_rank(["--out", str(tmp_path / "out"), *(word for s in settings for word in ("--set", s))]) == 0
    assert found == [SLACK + 3 * timedelta(hours=1)]
    assert not torch.distributed.is_initialized()
