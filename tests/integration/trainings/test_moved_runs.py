"""A run folder that was moved in the middle of a training goes on with it to the same weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.files import sha256_of_file
from schemas.errors import RunConflict
from tests.cases.policy_loop_cases import BRIEF, learnt, small
from training.policy.editor import make_editor
from training.policy.files import policy_files
from training.policy.train import train_policy
from training.reward.config import RewardConfig
from training.reward.train import train_reward

pytestmark = pytest.mark.usefixtures("cheap")
TINY = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "batch_requests": 1, "threads": 1, "checkpoint_steps": 2}


def interrupt_at(step: int) -> Callable[[int], None]:
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


def run_with(dataset: Path, folder: Path) -> Path:
    shutil.copytree(dataset, folder / "dataset")
    (folder / "run.json").touch()
    return folder


def test_a_reward(few_rows: Path, tmp_path: Path) -> None:
    def config(run: Path) -> RewardConfig:
        return RewardConfig.model_validate({"dataset": str(run / "dataset"), **TINY, "steps": 4})

    run, there = run_with(few_rows, tmp_path / "run"), tmp_path / "moved"
    train_reward(config(run), run / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_reward(config(run), run / "reward", on_step=interrupt_at(3))
    shutil.move(run, there)
    train_reward(config(there), there / "reward")
    for name in ("reward.safetensors", "reward.json"):
        assert (there / "reward" / name).read_bytes() == (there / "whole" / name).read_bytes()
    assert b"tmp" not in (there / "reward" / "reward.json").read_bytes()


def test_a_policy_whose_base_lies_in_the_run(plain_dataset: Path, random_policy: Path, tmp_path: Path) -> None:
    run, there = run_with(plain_dataset, tmp_path / "run"), tmp_path / "moved"
    shutil.copytree(random_policy, run / "base")

    def train(run: Path, name: str, on_update: Callable[[int], None] = lambda _: None) -> None:
        settings = {**BRIEF, "updates": 2, "checkpoint_every": 1, "evaluation_requests": 2}
        train_policy(small(run / "dataset", run / "base", **settings), run / "policy" / name, on_update)

    train(run, "whole")
    with pytest.raises(KeyboardInterrupt):
        train(run, "a", interrupt_at(1))
    shutil.move(run, there)
    train(there, "a")
    assert learnt(there / "policy" / "a") == learnt(there / "policy" / "whole")
    assert make_editor(str(there / "policy" / "a"), "cpu").revision
    assert there / "base" / "model_index.json" in policy_files(str(there / "policy" / "a"))
    tar = next((there / "dataset").glob("train-*.tar"))
    manifest = there / "dataset" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(sha256_of_file(tar), "0" * 64))
    with pytest.raises(RunConflict, match="was trained on a dataset of digest"):
        train(there, "a")
