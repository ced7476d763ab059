"""Trainings that go on: after their minutes were up, without a seam in the curves; and what they do not go on from."""

import json
from pathlib import Path

import pytest

from schemas.errors import BadInput, RunConflict
from training.reward.config import RewardConfig
from training.reward.region_reward import load
from training.reward.train import train_reward

#: One more than a point of the curves is made of, so that a stop in between would show.
STEPS = 21


def tiny(dataset: Path, **changes: object) -> RewardConfig:
    fields = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "batch_requests": 1, "threads": 1}
    return RewardConfig.model_validate({"dataset": str(dataset), **fields, "steps": STEPS, "seed": 5, **changes})


def _interrupt_at(step: int):
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


@pytest.fixture(scope="module")
def whole(built_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "reward"
    train_reward(tiny(built_run / "dataset", checkpoint_steps=7), out)
    return out


def test_what_ran_out_of_time_goes_on_to_the_same_weights(built_run: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(built_run / "dataset", checkpoint_steps=7), tmp_path / "reward"
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, out, on_step=_interrupt_at(8))
    metrics = train_reward(config, out, max_minutes=0)
    assert (metrics["stopped"], metrics["steps"]) == ("time", 7)
    early = load(out).revision
    state = json.loads((out / "training/state.json").read_bytes())
    assert (state["step"], state["finished"]) == (7, False)
    metrics = train_reward(config, out)
    assert (metrics["stopped"], metrics["steps"]) == ("steps", STEPS)
    assert load(out).revision == load(whole).revision != early
    assert (out / "reward.safetensors").read_bytes() == (whole / "reward.safetensors").read_bytes()
    assert not list((out / "training").glob("*.safetensors"))


def test_what_had_no_time_at_all_starts_with_the_next_call(built_run: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(built_run / "dataset", checkpoint_steps=7), tmp_path / "reward"
    assert train_reward(config, out, max_minutes=0)["steps"] == 0
    assert train_reward(config, out)["steps"] == STEPS
    assert load(out).revision == load(whole).revision


def test_the_curves_show_no_seam_where_a_training_was_stopped(built_run: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(built_run / "dataset", checkpoint_steps=7), tmp_path / "reward"
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, out, on_step=_interrupt_at(15))
    train_reward(config, out)
    history = json.loads((out / "curves.json").read_bytes())["history"]
    assert [point["step"] for point in history] == [20]
    assert history == json.loads((whole / "curves.json").read_bytes())["history"]


@pytest.mark.parametrize("architecture", ["other-net/3", None])
def test_a_training_of_another_architecture_is_refused_by_name(
    built_run: Path, tmp_path: Path, architecture: str | None
) -> None:
    config, out = tiny(built_run / "dataset", steps=2), tmp_path / "reward"
    train_reward(config, out, max_minutes=0)
    state = out / "training/state.json"
    state.write_text(json.dumps(json.loads(state.read_bytes()) | {"architecture": architecture}))
    with pytest.raises(BadInput, match=rf"state\.json: has architecture '{architecture}'"):
        train_reward(config, out)


def test_a_training_under_way_is_not_gone_on_with_under_other_settings(built_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "reward"
    train_reward(tiny(built_run / "dataset"), out, max_minutes=0)
    before = (out / "training/state.json").read_bytes()
    with pytest.raises(RunConflict, match=r"was trained with seed = 5, now it is 6; give another folder"):
        train_reward(tiny(built_run / "dataset", seed=6), out)
    assert (out / "training/state.json").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": "manifest/1"}'])
def test_a_damaged_state_is_one_clear_line(built_run: Path, tmp_path: Path, damage: bytes) -> None:
    out = tmp_path / "reward"
    (out / "training").mkdir(parents=True)
    (out / "training/state.json").write_bytes(damage)
    with pytest.raises(BadInput, match=r"state\.json: .*remove the folder"):
        train_reward(tiny(built_run / "dataset"), out)
