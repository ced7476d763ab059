"""A relative folder in a training's settings is the current one's, in every command, and is kept as an absolute one."""

import os
import sys
from pathlib import Path

import pytest

from flows.train_reward import outputs
from runtime.checkout import CHECKOUT
from schemas.errors import RunConflict
from training.checkpoint import write_json
from training.policy import checkpoint as policy_checkpoint
from training.policy.config import load_config as policy_config
from training.reward import checkpoint as reward_checkpoint
from training.reward.config import RewardConfig, found_settings
from training.reward.config import load_config as reward_config
from training.reward.network import ARCHITECTURE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that is not the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_process_that_trains_or_asks_a_reward_runs_where_the_command_does(elsewhere: Path) -> None:
    code = "import os, runtime.specs; print(os.getcwd(), runtime.specs.__file__)"
    (printed,) = outputs([(elsewhere, [sys.executable, "-c", code])])
    assert printed.split() == [os.getcwd(), str(CHECKOUT / "runtime/specs.py")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("region:rewards/a", "region:{}/rewards/a"),
        ("untrained:b", "untrained:{}/b"),
        ("region:/there", "region:/there"),
        ("region", "region"),
        ("endpoint:http://127.0.0.1:1/v1", "endpoint:http://127.0.0.1:1/v1"),
        ("constant:5", "constant:5"),
    ],
)
def test_a_rewards_folder_is_kept_absolute(elsewhere: Path, given: str, kept: str) -> None:
    config = policy_config(None, {"dataset": "d", "reward": given, "second_reward": given})
    assert config.reward == config.second_reward == kept.format(elsewhere)


def test_a_base_policy_and_a_backbone_are_kept_absolute(elsewhere: Path) -> None:
    assert policy_config(None, {"dataset": "d", "policy": "klein:base"}).policy == f"klein:{elsewhere}/base"
    assert policy_config(None, {"dataset": "d", "policy": "tiny"}).policy == "tiny"
    assert reward_config(None, {"dataset": "d", "backbone": "eyes"}).backbone == f"{elsewhere}/eyes"
    assert reward_config(None, {"dataset": "d"}).backbone is None


def test_what_an_earlier_version_kept_relative_goes_on(elsewhere: Path) -> None:
    policy = policy_config(None, {"dataset": "d", "policy": "klein:base"})
    fields = {"update": 1, "stopped": "", "history": [], "trials": [{}], "tensors": "state-000001.safetensors"}
    kept = policy.model_dump(mode="json") | {"policy": "klein:base"}
    write_json(elsewhere / "training/state.json", {"schema": "policy-training/1", "config": kept, **fields})
    assert policy_checkpoint.read_state(elsewhere, policy) is not None
    with pytest.raises(RunConflict, match="trained with policy = "):
        policy_checkpoint.read_state(elsewhere, policy_config(None, {"dataset": "d", "policy": "klein:other"}))


def test_an_earlier_rewards_relative_backbone_is_the_checkouts(elsewhere: Path) -> None:
    assert found_settings({"backbone": "eyes"}, elsewhere) == {"backbone": str(CHECKOUT / "eyes")}
    reward = RewardConfig(dataset="d", backbone=str(CHECKOUT / "eyes"))
    kept = reward.model_dump(mode="json") | {"backbone": "eyes"}
    state = {"schema": "region-reward-training/1", "architecture": ARCHITECTURE, "config": kept, "step": 1}
    write_json(elsewhere / "training/state.json", state | {"history": [], "finished": True, "tensors": None})
    assert reward_checkpoint.read_state(elsewhere, reward) is not None
