"""Whole trainings of the random tiny policy through their folder: stopped, gone on, damaged, on a full disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from schemas.errors import BadInput, NewerSchema, RegionwiseError, RunConflict
from tests.cases.full_disk import room
from tests.cases.judge_server import JudgeServer, Reply, good
from tests.cases.policy_loop_cases import (
    BRIEF,
    Bright,
    brief,
    learnt,
    refused,
    small,
)
from training.checkpoint import CheckpointFailed
from training.policy import train
from training.policy.config import PolicyConfig
from training.policy.train import TooManyMissing, train_policy

pytestmark = pytest.mark.usefixtures("cheap")

#: The settings of the training that many of these tests read.
WHOLE = {**BRIEF, "updates": 4, "evaluate_every": 2, "checkpoint_every": 2, "evaluation_requests": 3}


@pytest.fixture(scope="module")
def whole(plain_dataset: Path, random_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed training of four updates, scored by the pixel oracle."""
    out = tmp_path_factory.mktemp("whole") / "policy"
    train_policy(small(plain_dataset, random_policy, **WHOLE), out)
    return out


def stop_at(update: int) -> Callable[[int], None]:
    def on_update(done: int) -> None:
        if done == update:
            raise KeyboardInterrupt

    return on_update


def test_a_training_says_what_it_did(whole: Path) -> None:
    state = json.loads((whole / "training/state.json").read_bytes())
    assert [row["update"] for row in state["history"]] == [1, 2, 3, 4]
    assert [tested["update"] for tested in state["trials"]] == [0, 2, 4]
    assert all(len(tested["requests"]) == 3 for tested in state["trials"])
    for row in state["history"]:
        assert 0 < row["reward/region"] < 1
        assert row["missing_share"] == row["reward_failures"] == row["clip_fraction/regions"] == 0
        assert row["gradient_norm"] > 0
        assert row["log_prob_gap"] < 1e-5
    policy = json.loads((whole / "policy.json").read_bytes())
    assert (policy["schema"], policy["updates"], policy["synthetic"]) == ("policy/1", 4, True)
    assert [path.name for path in (whole / "training").glob("*.safetensors")] == ["state-000004.safetensors"]
    assert train_policy(PolicyConfig.model_validate(policy["config"]), whole)["updates"] == 4


def test_what_was_interrupted_goes_on_to_the_same_weights(
    plain_dataset: Path, random_policy: Path, whole: Path, tmp_path: Path
) -> None:
    config = small(plain_dataset, random_policy, **WHOLE)
    for update in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train_policy(config, tmp_path / "policy", stop_at(update))
    train_policy(config, tmp_path / "policy")
    assert learnt(tmp_path / "policy") == learnt(whole)


def test_a_reward_that_dies_stops_with_one_line_and_nothing_done_is_lost(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, bright: Callable[..., Bright]
) -> None:
    config = brief(plain_dataset, random_policy, updates=2, reward="endpoint:http://localhost:1")
    bright()
    train_policy(config, tmp_path / "whole")
    bright(dict.fromkeys(range(3, 99), refused))
    line = (
        r"^reward endpoint:http://localhost:1: is missing 100% of rewards in update 2: reward bright failed: "
        r"\[Errno 111\] Connection refused; 6 images unscored; mend the reward, go on$"
    )
    with pytest.raises(TooManyMissing, match=line):
        train_policy(config, tmp_path / "policy")
    state = json.loads((tmp_path / "policy/training/state.json").read_bytes())
    assert (state["update"], len(state["history"])) == (1, 1)
    bright()
    train_policy(config, tmp_path / "policy")
    assert learnt(tmp_path / "policy") == learnt(tmp_path / "whole")


def test_an_endpoint_that_dies_is_one_clear_line(plain_dataset: Path, random_policy: Path, tmp_path: Path) -> None:
    with JudgeServer() as server:
        asked = 0

        def behave(request: Any) -> Reply:
            nonlocal asked
            asked += 1
            return good(request) if asked <= 7 else Reply(status=400, body=b"no")

        server.behave = behave
        config = brief(
            plain_dataset, random_policy, updates=3, reward=f"endpoint:{server.url}", evaluation_requests=1, group=2,
            checkpoint_every=9, requests=1,
        )  # fmt: skip
        with pytest.raises(RegionwiseError) as caught:
            train_policy(config, tmp_path)
    assert "\n" not in str(caught.value)
    assert server.url.split("//")[1].split("/")[0] in str(caught.value)
    assert json.loads((tmp_path / "training/state.json").read_bytes())["update"] >= 1


def rewrite(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = out / "training/state.json"
    state = json.loads(path.read_bytes())
    change(state)
    path.write_text(json.dumps(state))


def drop_moment(out: Path) -> None:
    path = out / "training/state-000004.safetensors"
    found = load_file(path)
    del found["moment/0/exp_avg"]
    save_file(found, path)


def drop_average(out: Path) -> None:
    path = out / "training/state-000004.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.startswith("average/")}, path)


@pytest.mark.parametrize(
    ("damage", "error", "fault"),
    [
        (lambda out: (out / "training/state.json").write_bytes(b'{"schema": "pol'), BadInput, "cannot be read: "),
        (lambda out: (out / "training/state.json").write_bytes(b"\xff\xfe"), BadInput, "cannot be read: "),
        (
            lambda out: (out / "training/state.json").write_bytes(b"[]"),
            BadInput,
            "says schema 'none', expected policy-",
        ),
        (lambda out: rewrite(out, lambda s: s.update(schema="policy-training/3")), NewerSchema, "this version reads"),
        (lambda out: rewrite(out, lambda s: s.update(trials=[])), BadInput, "is damaged: field trials is empty"),
        (lambda out: (out / "training/state-000004.safetensors").unlink(), BadInput, "does not exist"),
        (lambda out: (out / "training/state-000004.safetensors").write_bytes(b"{}" * 9), BadInput, "is no safetensors"),
        (drop_moment, BadInput, r"lacks moments .*: moment/0/exp_avg is None, expected \(2, "),
        (drop_average, BadInput, "is an adapter of another model"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_line(
    whole: Path, tmp_path: Path, damage: Callable[[Path], object], error: type[BadInput], fault: str
) -> None:
    out = shutil.copytree(whole, tmp_path / "policy")
    damage(out)
    config = json.loads((whole / "policy.json").read_bytes())["config"] | {"updates": 5}
    with pytest.raises(error, match=fault) as caught:
        train_policy(PolicyConfig.model_validate(config), out)
    assert str(out / "training/state") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_config_is_refused_by_the_setting_that_differs(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "policy")
    config = json.loads((whole / "policy.json").read_bytes())["config"]
    fault = r"was trained with group = 3, now it is 4; give another folder, or the same settings$"
    with pytest.raises(RunConflict, match=fault):
        train_policy(PolicyConfig.model_validate(config | {"group": 4}), out)
    policy = out / "policy.json"
    said = policy.read_text()
    policy.write_text(json.dumps(json.loads(said) | {"revision": "sha256:0123456789abcdef"}))
    with pytest.raises(RunConflict, match=r"was trained on revision sha256:0123456789abcdef of tiny:.*, which is now"):
        train_policy(PolicyConfig.model_validate(config | {"updates": 5}), out)
    policy.write_text(said)
    free = {"updates": 5, "evaluate_every": 7, "checkpoint_every": 1, "reward_timeout_s": 9.0, "reward_threads": 2}
    assert train_policy(PolicyConfig.model_validate(config | free), out)["updates"] == 5


def test_a_disk_that_fills_leaves_the_last_checkpoint_whole(
    plain_dataset: Path, random_policy: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(plain_dataset, random_policy, **WHOLE)
    first = tmp_path / "first"
    with pytest.raises(KeyboardInterrupt):
        train_policy(config, first, stop_at(3))
    monkeypatch.setattr(train, "look_for_room", lambda *_: None)  # there was room when it began
    kept = {path.name: path.read_bytes() for path in (first / "training").iterdir()}
    full = (whole / "training/state-000004.safetensors").stat().st_size - 1
    out = shutil.copytree(first, tmp_path / "full")
    for size, name in ((2_000, "sheet-00004.png"), (full, "state-000004.safetensors")):
        fault = rf"{name}: cannot be written: File too large; make room and start again"
        with room(size), pytest.raises(CheckpointFailed, match=fault):
            train_policy(config, out)
        assert {path.name: path.read_bytes() for path in (out / "training").iterdir()} == kept
        assert not list(out.rglob(".tmp-*"))
    train_policy(config, out)
    assert learnt(out) == learnt(whole)
