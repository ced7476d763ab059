"""Where a training may not write, has no room, or another one writes, it says so before it begins."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.locks import locked
from schemas.errors import RunInUse
from tests.cases.full_disk import room
from tests.cases.policy_loop_cases import small
from tests.cases.segmenter_cases import QUICK, SMALL
from training.checkpoint import CheckpointFailed
from training.output_folder import MARGIN_BYTES, look_for_room
from training.policy import train as policy
from training.reward import train as reward
from training.reward.config import RewardConfig
from training.reward.region_reward import load
from training.segmenter import train as segmenter

TINY = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "batch_requests": 1, "threads": 1, "checkpoint_steps": 2}
Train = Callable[[Path], object]


def tiny(dataset: Path) -> RewardConfig:
    return RewardConfig.model_validate({"dataset": str(dataset), **TINY, "steps": 3})


@pytest.fixture(params=["reward", "policy", "segmenter"])
def training(
    request: pytest.FixtureRequest, plain_dataset: Path, random_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """A training that fails where its work begins."""

    def begun(*_: object, **__: object) -> object:
        raise AssertionError("its work has begun")

    for module, names in ((reward, ("load_items",)), (policy, ("edited",)), (segmenter, ("pool_in",))):
        for name in names:
            monkeypatch.setattr(module, name, begun)
    return {
        "reward": lambda out: reward.train_reward(tiny(plain_dataset), out),
        "policy": lambda out: policy.train_policy(small(plain_dataset, random_policy), out),
        "segmenter": lambda out: segmenter.train_segmenter(QUICK, out, sizes=SMALL),
    }[request.param]


def test_no_room_and_no_right_to_write_are_told_before_the_work(training: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fault = rf"^{out}: has no room for \d+ MiB of checkpoints: File too large; make room and start again$"
    with room(MARGIN_BYTES), pytest.raises(CheckpointFailed, match=fault):
        training(out)
    (tmp_path / "file").write_text("in the way")
    fault = r"file/out: cannot be written: Not a directory; make it writable, or train into another folder$"
    with pytest.raises(CheckpointFailed, match=fault):
        training(tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(AssertionError, match="its work has begun"):
        training(out)


@pytest.mark.parametrize("main", [reward.main, policy.main, segmenter.main])
def test_two_trainings_into_one_folder_are_one(
    main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "steps=1", "--set", "pool=8"] if main is segmenter.main else ["--set", "dataset=none"]
    with locked(tmp_path / "out"):
        assert main(["--out", str(tmp_path / "out"), *settings]) == RunInUse.exit_code
    assert f"out: is in use by process {os.getpid()} (" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    assert main(["--out", str(tmp_path / "file" / "out"), *settings]) == 1
    said = capsys.readouterr().err
    assert "file/out: cannot be written: Not a directory; make it writable and start again" in said
    assert said.count("\n") == 1


def test_a_reward_whose_disk_fills_goes_on_by_the_same_command(few_rows: Path, tmp_path: Path) -> None:
    config, whole, out = tiny(few_rows), tmp_path / "whole", tmp_path / "out"
    reward.train_reward(config, whole)
    with pytest.raises(CheckpointFailed, match=r"reward\.safetensors: cannot be written: .*; make room and"):
        train_into_a_full_disk(config, out)
    assert not list(out.rglob(".tmp-*"))
    reward.train_reward(config, out)
    assert (out / "reward.safetensors").read_bytes() == (whole / "reward.safetensors").read_bytes()
    assert load(out).revision == load(whole).revision


def train_into_a_full_disk(config: RewardConfig, out: Path) -> None:
    """The disk is full once the last step is done."""
    with room(None) as limit:
        reward.train_reward(config, out, on_step=lambda step: limit(1_000) if step == config.steps else None)


def test_looking_leaves_nothing_and_needs_no_folder(tmp_path: Path) -> None:
    look_for_room(tmp_path / "a" / "b", 1_000)
    assert list(tmp_path.iterdir()) == []
