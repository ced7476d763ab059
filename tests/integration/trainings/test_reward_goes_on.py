"""Trainings that go on: after their minutes were up, without a seam in the curves; and what they do not go on from."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import BadInput, RunConflict
from training.reward import train
from training.reward.config import RewardConfig
from training.reward.region_reward import load
from training.reward.train import train_reward

#: Steps that a point of the curves is made of here, and one more, so that a stop in between would show.
HISTORY_STEPS = 4
STEPS = HISTORY_STEPS + 1


def tiny(dataset: Path, **changes: object) -> RewardConfig:
    fields = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "batch_requests": 1, "threads": 1}
    return RewardConfig.model_validate({"dataset": str(dataset), **fields, "steps": STEPS, "seed": 5, **changes})


@pytest.fixture(autouse=True, scope="module")
def short_history() -> Iterator[None]:
    """Points of the curves that few steps make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_HISTORY_STEPS", HISTORY_STEPS)
        yield


def _interrupt_at(step: int):
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


@pytest.fixture(scope="module")
def whole(few_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "reward"
    train_reward(tiny(few_rows, checkpoint_steps=2), out)
    return out


def test_what_ran_out_of_time_goes_on_to_the_same_weights(few_rows: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(few_rows, checkpoint_steps=2), tmp_path / "reward"
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, out, on_step=_interrupt_at(3))
    metrics = train_reward(config, out, max_minutes=0)
    assert (metrics["stopped"], metrics["steps"]) == ("time", 2)
    early = load(out).revision
    state = json.loads((out / "training/state.json").read_bytes())
    assert (state["step"], state["finished"]) == (2, False)
    metrics = train_reward(config, out)
    assert (metrics["stopped"], metrics["steps"]) == ("steps", STEPS)
    assert load(out).revision == load(whole).revision != early
    assert (out / "reward.safetensors").read_bytes() == (whole / "reward.safetensors").read_bytes()
    assert not list((out / "training").glob("*.safetensors"))


def test_what_had_no_time_at_all_starts_with_the_next_call(few_rows: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(few_rows, checkpoint_steps=2), tmp_path / "reward"
    assert train_reward(config, out, max_minutes=0)["steps"] == 0
    assert train_reward(config, out)["steps"] == STEPS
    assert load(out).revision == load(whole).revision


def test_the_curves_show_no_seam_where_a_training_was_stopped(few_rows: Path, whole: Path, tmp_path: Path) -> None:
    config, out = tiny(few_rows, checkpoint_steps=2), tmp_path / "reward"
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, out, on_step=_interrupt_at(3))
    train_reward(config, out)
    history = json.loads((out / "curves.json").read_bytes())["history"]
    assert [point["step"] for point in history] == [HISTORY_STEPS]
    assert history == json.loads((whole / "curves.json").read_bytes())["history"]


@pytest.mark.parametrize("architecture", ["other-net/3", None])
def test_a_training_of_another_architecture_is_refused_by_name(
    few_rows: Path, tmp_path: Path, architecture: str | None
) -> None:
    config, out = tiny(few_rows, steps=2), tmp_path / "reward"
    train_reward(config, out, max_minutes=0)
    state = out / "training/state.json"
    state.write_text(json.dumps(json.loads(state.read_bytes()) | {"architecture": architecture}))
    with pytest.raises(BadInput, match=rf"state\.json: has architecture '{architecture}'"):
        train_reward(config, out)


def test_a_training_under_way_is_not_gone_on_with_under_other_settings(few_rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "reward"
    train_reward(tiny(few_rows), out, max_minutes=0)
    before = (out / "training/state.json").read_bytes()
    with pytest.raises(RunConflict, match=r"was trained with seed = 5, now it is 6; give another folder"):
        train_reward(tiny(few_rows, seed=6), out)
    assert (out / "training/state.json").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": "manifest/1"}'])
def test_a_damaged_state_is_one_clear_line(few_rows: Path, tmp_path: Path, damage: bytes) -> None:
    out = tmp_path / "reward"
    (out / "training").mkdir(parents=True)
    (out / "training/state.json").write_bytes(damage)
    with pytest.raises(BadInput, match=r"state\.json: .*remove the folder"):
        train_reward(tiny(few_rows), out)


@pytest.fixture(scope="module")
def under_way(few_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was interrupted after its checkpoint of step 1."""
    out = tmp_path_factory.mktemp("under_way") / "reward"
    with pytest.raises(KeyboardInterrupt):
        train_reward(tiny(few_rows, steps=2, checkpoint_steps=1), out, on_step=_interrupt_at(1))
    return out


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("moment/3/exp_avg"), r"lacks moments .*: moment/3/exp_avg is None, expected \("),
        (lambda t: t.update({"moment/3/exp_avg": torch.zeros(99)}), r"moment/3/exp_avg is \(99,\), expected \("),
        (lambda t: t["moment/3/exp_avg_sq"].fill_(torch.nan), "holds numbers in moment/3/exp_avg_sq that are not"),
        (lambda t: t["weight/region_head.bias"].fill_(torch.inf), r"holds numbers in weight/region_head\.bias that"),
        (lambda t: t.pop("weight/region_head.bias"), r"holds weights of another network: weight/region_head\.bias is"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(
    few_rows: Path, under_way: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], fault: str
) -> None:
    out = shutil.copytree(under_way, tmp_path / "reward")
    path = out / "training/state-0000001.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(BadInput, match=rf"state-0000001\.safetensors: .*{fault}.*; train the reward anew$"):
        train_reward(tiny(few_rows, steps=2, checkpoint_steps=1), out)


@pytest.mark.parametrize("sums", [None, [0.0], ["0"] * 8])
def test_a_state_without_its_sums_is_one_clear_line(
    few_rows: Path, under_way: Path, tmp_path: Path, sums: list[object] | None
) -> None:
    out = shutil.copytree(under_way, tmp_path / "reward")
    path = out / "training/state.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"sums": sums}))
    with pytest.raises(BadInput, match=r"state\.json: is damaged: field sums is not 8 numbers; remove the folder$"):
        train_reward(tiny(few_rows, steps=2, checkpoint_steps=1), out)


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_finished_training_without_its_metrics_is_one_clear_line(
    few_rows: Path, tmp_path: Path, content: bytes | None
) -> None:
    config, out = tiny(few_rows, steps=1), tmp_path / "reward"
    train_reward(config, out)
    (out / "training.json").unlink()
    if content is not None:
        (out / "training.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"training\.json: (does not exist|cannot be read: .*); remove the folder$"):
        train_reward(config, out)
