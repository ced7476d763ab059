"""A run folder that was moved as a whole: what its trainings keep leads to the same places in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BadInput, RunConflict
from training.checkpoint import write_json
from training.dataset_identity import DIGEST_FIELD, dataset_digest
from training.places import found_place, kept_place, of_place
from training.policy import checkpoint as policy_checkpoint
from training.policy.config import PolicyConfig, found_settings, kept_settings
from training.policy.config import load_config as policy_config
from training.reward import checkpoint as reward_checkpoint
from training.reward.config import RewardConfig
from training.reward.config import found_settings as found_reward_settings
from training.reward.config import kept_settings as kept_reward_settings
from training.reward.network import ARCHITECTURE

DIGEST = "ab" * 32


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that looks like a run with a dataset."""
    run = tmp_path / "runs" / "a"
    (run / "dataset").mkdir(parents=True)
    (run / "run.json").touch()
    return run


def moved(run: Path) -> Path:
    return Path(shutil.move(run, run.parent / "elsewhere"))


def test_a_place_in_the_run_is_kept_from_there_and_any_other_as_given(run: Path) -> None:
    out = run / "policy" / "first"
    assert kept_place(str(run / "dataset"), out) == "$RUN/dataset"
    assert kept_place(str(run / "x" / ".." / "dataset"), out) == "$RUN/dataset"
    assert kept_place("$RUN/dataset", out) == "$RUN/dataset"
    for outside in (str(run.parent / "b" / "dataset"), "/data", "data", ""):
        assert kept_place(outside, out) == found_place(outside, out) == outside
    assert kept_place(str(run / "dataset"), run.parent) == str(run / "dataset")
    assert of_place(kept_place, f"region:{run}/reward", out, ("region",)) == "region:$RUN/reward"
    assert of_place(kept_place, "endpoint:http://a/b", out, ("region",)) == "endpoint:http://a/b"
    assert found_place("$RUN/dataset", moved(run) / "policy") == str(run.parent / "elsewhere" / "dataset")


def test_a_place_in_a_run_that_is_no_more_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"out: names \$RUN/base, and lies in no run folder any more; put it back"):
        found_place("$RUN/base", tmp_path / "out")


def test_every_place_of_a_training_moves_with_its_run(run: Path) -> None:
    places = {"policy": f"klein:{run}/base", "reward": f"region:{run}/reward", "second_reward": "endpoint:http://a/b"}
    config = PolicyConfig.model_validate({"dataset": str(run / "dataset"), **places})
    kept = kept_settings(config.model_dump(mode="json"), run / "policy" / "a")
    assert (kept["dataset"], kept["policy"], kept["reward"]) == (
        "$RUN/dataset",
        "klein:$RUN/base",
        "region:$RUN/reward",
    )
    reward = RewardConfig.model_validate({"dataset": str(run / "dataset"), "backbone": str(run / "eyes")})
    kept_reward = kept_reward_settings(reward.model_dump(mode="json"), run / "reward")
    assert (kept_reward["dataset"], kept_reward["backbone"]) == ("$RUN/dataset", "$RUN/eyes")
    there = moved(run)
    found = found_settings(kept, there / "policy" / "a")
    assert (found["policy"], found["reward"]) == (f"klein:{there}/base", f"region:{there}/reward")
    assert found_reward_settings(kept_reward, there / "reward")["backbone"] == f"{there}/eyes"


def dataset_of(run: Path, sha256: str = DIGEST) -> str:
    """Writes a manifest of one tar, which is not there."""
    shard = {"name": "train-00000.tar", "split": "train", "sha256": sha256, "size_bytes": 1, "samples": 1}
    shard |= {"requests": 1, "synthetic": 1, "edit_types": {}, "raters": {}, "unscored": 0}
    build = {"name": "a", "config": {}, "config_digest": DIGEST, "inputs": {}, "n_parts": 1, "seeds": {}}
    build |= {"model_revisions": {}, "commit": None, "created_at": "then", "host": "here", "packages": {}}
    manifest: dict[str, Any] = {"schema": "manifest/1", "dataset": "a", "row_schema": "dataset-row/2", "rows": 1}
    manifest |= {"shards": [shard], "requests": 1, "splits": {"train": 1}, "synthetic": "all", "scores": "rows"}
    manifest |= {"stages": [], "build": build, "created_at": "then", "edit_types": {}, "raters": {}, "unscored": 0}
    (run / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    return str(run / "dataset")


def policy_under_way(run: Path, version: int, **fields: object) -> Path:
    config = policy_config(None, {"dataset": dataset_of(run), "reward": f"region:{run}/reward"})
    settings = config.model_dump(mode="json")
    state = {"update": 1, "stopped": "", "history": [], "trials": [{}], "tensors": "state-000001.safetensors"}
    out = run / "policy" / "a"
    state |= {"config": kept_settings(settings, out) if version > 1 else settings}
    write_json(out / "training/state.json", {"schema": f"policy-training/{version}", **state, **fields})
    return out


def test_a_training_goes_on_in_its_moved_run_and_over_no_other_dataset(run: Path) -> None:
    out = policy_under_way(run, 2, **{DIGEST_FIELD: dataset_digest(Path(dataset_of(run)))})
    there = moved(run)
    out = there / "policy" / "a"
    config = policy_config(None, {"dataset": str(there / "dataset"), "reward": f"region:{there}/reward"})
    assert policy_checkpoint.read_state(out, config) is not None
    copied = Path(shutil.copytree(there / "dataset", there.parent / "copy"))
    assert policy_checkpoint.read_state(out, config.model_copy(update={"dataset": str(copied)})) is not None
    with pytest.raises(
        RunConflict, match=r"was trained with reward = 'region:\$RUN/reward', now it is 'region:/other'"
    ):
        policy_checkpoint.read_state(out, config.model_copy(update={"reward": "region:/other"}))
    dataset_of(there, "cd" * 32)
    with pytest.raises(
        RunConflict, match=r"was trained on a dataset of digest \w{16}, now it is \w{16} \(.*/dataset\)"
    ):
        policy_checkpoint.read_state(out, config)


def test_a_training_of_an_earlier_version_goes_on_where_it_was_and_else_is_refused_by_its_version(run: Path) -> None:
    out = policy_under_way(run, 1)
    here = policy_config(None, {"dataset": str(run / "dataset"), "reward": f"region:{run}/reward"})
    assert policy_checkpoint.read_state(out, here) is not None
    there = moved(run)
    config = policy_config(None, {"dataset": str(there / "dataset"), "reward": f"region:{there}/reward"})
    words = (
        rf"was trained on {run}/dataset by an earlier version \(policy-training/1\), which knew a dataset by its path"
    )
    with pytest.raises(RunConflict, match=words):
        policy_checkpoint.read_state(there / "policy" / "a", config)


def test_a_finished_reward_is_not_taken_for_one_of_another_dataset(run: Path) -> None:
    config = RewardConfig(dataset=dataset_of(run))
    state = {
        "schema": "region-reward-training/2",
        "architecture": ARCHITECTURE,
        "config": config.model_dump(mode="json"),
    }
    state |= {"step": 1, "history": [], "finished": True, "tensors": None}
    path = run / "reward" / "training/state.json"
    write_json(path, state | {"dataset_digest": "0" * 64})
    with pytest.raises(RunConflict, match="was trained on a dataset of digest 0000000000000000, now it is"):
        reward_checkpoint.read_state(run / "reward", config)
    write_json(path, state)
    with pytest.raises(BadInput, match="is damaged: field dataset_digest is missing"):
        reward_checkpoint.read_state(run / "reward", config)
