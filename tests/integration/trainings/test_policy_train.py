"""Short trainings of the random tiny policy: their figures, and what they must take, count or refuse."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import BadInput, RegionwiseError
from tests.cases.dataset_cases import Fields, rewritten
from tests.cases.policy_loop_cases import (
    Bright,
    Score,
    brief,
    refused,
    small,
)
from training.policy import results, train
from training.policy.checkpoint import put_adapter, read_adapter
from training.policy.config import PolicyConfig
from training.policy.data import load_cases
from training.policy.edit_cases import PolicyCase
from training.policy.lora_file import LORA_FILE
from training.policy.registry import make_policy
from training.policy.rewards import RegionRewards, RewardQueue, nothing_known
from training.policy.rollouts import Rollout, roll_out_requests
from training.policy.train import Diverged, averaged, train_policy

pytestmark = pytest.mark.usefixtures("cheap")


def tensors(out: Path) -> dict[str, torch.Tensor]:
    state = json.loads((out / "training/state.json").read_bytes())
    return load_file(out / "training" / state["tensors"])


def below(prefix: str, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def at_start(config: PolicyConfig) -> dict[str, torch.Tensor]:
    policy = make_policy(config.policy, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
    return {name: parameter.detach().clone() for name, parameter in policy.trained().items()}


def test_the_average_follows_the_weights_at_the_pace_of_ema(
    plain_dataset: Path, random_policy: Path, tmp_path: Path
) -> None:
    config = brief(plain_dataset, random_policy, updates=1, ema=0.75)
    train_policy(config, tmp_path)
    start, found = at_start(config), tensors(tmp_path)
    now, average = below("adapter/", found), below("average/", found)
    assert max(float((now[name] - start[name]).abs().max()) for name in start) > 1e-4
    for name, tensor in start.items():
        torch.testing.assert_close(average[name], tensor + 0.25 * (now[name] - tensor), atol=1e-8, rtol=1e-5)
    kept = load_file(tmp_path / "adapter.safetensors")
    assert all(torch.equal(kept[name], average[name]) for name in start)
    lora = (tmp_path / LORA_FILE).read_bytes()
    (tmp_path / LORA_FILE).unlink()  # as an earlier version left it
    train_policy(config, tmp_path)
    assert (tmp_path / LORA_FILE).read_bytes() == lora


def test_tests_see_the_average_and_leave_the_weights_as_they_were(random_policy: Path) -> None:
    trained = make_policy(f"tiny:{random_policy}", rank=2, alpha=4).trained()
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    average = {name: tensor + 1 for name, tensor in before.items()}

    def within() -> None:
        with averaged(trained, average):
            assert all(torch.equal(trained[name], average[name]) for name in trained)
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        within()
    assert all(torch.equal(trained[name], before[name]) for name in trained)


def test_held_out_edits_are_those_of_the_average(plain_dataset: Path, random_policy: Path, tmp_path: Path) -> None:
    """With an average that has not moved yet, a test after the first update shows what the start showed."""
    train_policy(brief(plain_dataset, random_policy, updates=1, ema=1 - 1e-9, learning_rate=0.5), tmp_path)
    start, end = json.loads((tmp_path / "training/state.json").read_bytes())["trials"]
    assert end["signals"]["sharpness"] == pytest.approx(start["signals"]["sharpness"], rel=1e-5)


def test_the_rate_rises_over_the_warm_up(plain_dataset: Path, random_policy: Path, tmp_path: Path) -> None:
    moved = []
    for updates in (0, 4):
        config = brief(plain_dataset, random_policy, updates=1, warmup_updates=updates, weight_decay=0.0)
        train_policy(config, tmp_path / str(updates))
        start, now = at_start(config), below("adapter/", tensors(tmp_path / str(updates)))
        moved.append(max(float((now[name] - start[name]).abs().max()) for name in start))
    assert moved == pytest.approx([1e-3, 0.25e-3], rel=0.01)


def test_passes_and_steps_of_a_pass_are_all_taken(plain_dataset: Path, random_policy: Path, tmp_path: Path) -> None:
    config = small(plain_dataset, random_policy, updates=1, passes=3, optimizer_steps=2, clip=1e-5, group=2)
    train_policy(config, tmp_path)
    steps = {float(tensor) for name, tensor in tensors(tmp_path).items() if name.endswith("/step")}
    assert steps == {6.0}
    (row,) = json.loads((tmp_path / "training/state.json").read_bytes())["history"]
    assert row["clip_fraction/regions"] > 0


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_where_rollout_and_update_differ_by_their_kernels_the_log_probs_are_taken_again(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    def off(*given: Any) -> list[Rollout]:
        rollouts = roll_out_requests(*given)
        return [replace(r, samples=replace(r.samples, log_prob=r.samples.log_prob + 2e-4)) for r in rollouts]

    monkeypatch.setattr(train, "roll_out_requests", off)
    for clip, again in ((1e-3, 1), (1e-2, 0)):
        out = tmp_path / str(clip)
        train_policy(small(plain_dataset, random_policy, dtype=dtype, updates=1, clip=clip, train_batch=3), out)
        (row,) = json.loads((out / "training/state.json").read_bytes())["history"]
        assert row["log_prob_gap"] == pytest.approx(2e-4, rel=0.01)
        assert row["recomputed"] == again
        assert row["clip_fraction/regions"] == row["clip_fraction/background"] == 0
        assert row["step_kl/inside"] == pytest.approx(0 if again else 2e-8, rel=0.05, abs=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_equal_rewards_move_nothing_but_by_weight_decay(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, decay: float
) -> None:
    config = brief(plain_dataset, random_policy, reward="constant:12.5", weight_decay=decay, learning_rate=0.01)
    train_policy(config, tmp_path)
    for name, tensor in at_start(config).items():
        torch.testing.assert_close(below("adapter/", tensors(tmp_path))[name], tensor * (1 - 0.01 * decay) ** 2)
    for row in json.loads((tmp_path / "training/state.json").read_bytes())["history"]:
        assert (row["zero_std_ratio/regions"], row["gradient_norm"], row["loss"]) == (1, 0, 0)


def test_arms_begin_with_the_same_samples_and_part_in_their_gradients(
    plain_dataset: Path, random_policy: Path, tmp_path: Path
) -> None:
    arms = {"spatial": {}, "global": {"method": "global"}}
    arms |= {control: {"control": control} for control in ("permuted-masks", "permuted-advantages")}
    told, moved = [], []
    for name, changes in arms.items():
        train_policy(small(plain_dataset, random_policy, updates=1, **changes), tmp_path / name)
        (row,) = json.loads((tmp_path / name / "training/state.json").read_bytes())["history"]
        told.append({what: row[what] for what in row if what.startswith(("reward/", "phi/", "zero_std", "missing"))})
        moved.append((tmp_path / name / "adapter.safetensors").read_bytes())
    assert len(told[0]) == 8
    assert told[1:] == told[:1] * 3 or all(
        each[what] == pytest.approx(told[0][what], abs=1e-6) for each in told for what in each
    )
    assert len(set(moved)) == 4


def one_missing(cases: Sequence[PolicyCase]) -> list[RegionRewards]:
    """What `Bright` would say is not known of the first region of the first sample."""
    given = [RegionRewards(dict.fromkeys(case.masks, 3.0 * n), 2.0 * n, 20.0) for n, case in enumerate(cases)]
    phi = dict(given[0].phi) | {next(iter(cases[0].masks)): float("nan")}
    return [replace(given[0], phi=phi), *given[1:]]


def test_one_missing_reward_is_counted_and_stops_nothing(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, bright: Callable[..., Bright]
) -> None:
    bright({2: one_missing})
    train_policy(brief(plain_dataset, random_policy, updates=1), tmp_path)
    (row,) = json.loads((tmp_path / "training/state.json").read_bytes())["history"]
    assert 0 < row["missing_share"] < 0.1
    assert row["gradient_norm"] > 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors(tmp_path).values())


def late(_: Sequence[PolicyCase]) -> list[RegionRewards]:
    time.sleep(60)
    return []


def short(cases: Sequence[PolicyCase]) -> list[RegionRewards]:
    return [nothing_known(case) for case in cases[1:]]


def of_others(cases: Sequence[PolicyCase]) -> list[RegionRewards]:
    return [replace(nothing_known(case), phi={"another": 1.0}) for case in cases]


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        (refused, r"failed: \[Errno 111\] Connection refused"),
        (late, r"did not answer within 2 s"),
        (short, r"failed: answered 1 scores for 2 images"),
        (of_others, r"failed: answered no score for region \S+ of request \S+"),
    ],
)
def test_a_reward_that_fails_now_and_then_is_counted_and_training_goes_on(
    plain_dataset: Path,
    random_policy: Path,
    tmp_path: Path,
    bright: Callable[..., Bright],
    caplog: pytest.LogCaptureFixture,
    act: Score,
    fault: str,
) -> None:
    bright({3: act})
    config = brief(plain_dataset, random_policy, updates=1, sample_batch=2, max_missing_share=0.5, reward_threads=2)
    with caplog.at_level(logging.WARNING):
        train_policy(PolicyConfig.model_validate(config.model_dump() | {"reward_timeout_s": 2}), tmp_path)
    (row,) = json.loads((tmp_path / "training/state.json").read_bytes())["history"]
    assert row["reward_failures"] == 1
    assert 0.2 < row["missing_share"] < 0.5
    assert re.fullmatch(f"reward bright {fault}; 2 images unscored", caplog.messages[0])


def test_a_reward_whose_input_is_at_fault_stops_at_once_and_what_was_done_is_kept(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, bright: Callable[..., Bright]
) -> None:
    def at_fault(_: Sequence[PolicyCase]) -> list[RegionRewards]:
        raise BadInput("judge's key", "is not accepted", "set another")

    bright({3: at_fault})
    with pytest.raises(BadInput, match="judge's key: is not accepted"):
        train_policy(brief(plain_dataset, random_policy, updates=3, checkpoint_every=9), tmp_path)
    assert json.loads((tmp_path / "training/state.json").read_bytes())["update"] == 1


def test_tests_that_no_reward_answers_are_written_as_missing(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, bright: Callable[..., Bright]
) -> None:
    bright({1: refused, 4: refused})
    told = train_policy(brief(plain_dataset, random_policy, updates=2, stop_early=True), tmp_path)
    assert told["start"] == told["end"] == {"coverage": 0.0}
    first = json.loads((tmp_path / "training/state.json").read_bytes())["trials"][0]
    assert first["signals"]["training_reward"] is None
    assert first["signals"]["sharpness"] > 0


def test_what_comes_too_late_keeps_nobody_else_waiting() -> None:
    answers = threading.Event()

    def held(_: Sequence[PolicyCase]) -> list[RegionRewards]:
        answers.wait(60)
        return []

    reward = Bright({1: held})
    queue = RewardQueue(reward, threads=1, timeout_s=0.3)
    for _ in range(3):
        queue.submit([], [])
    assert queue.collect() == []
    assert not answers.is_set()  # the first is still under way
    assert [line.split(";")[0] for line in queue.failures] == ["reward bright did not answer within 0.3 s"] * 3
    answers.set()
    queue.submit([], [])
    assert queue.collect() == []
    assert (len(queue.failures), reward.calls) == (3, 2)
    queue.close()


def test_a_gradient_that_is_not_finite_stops_with_one_line(
    plain_dataset: Path, random_policy: Path, tmp_path: Path
) -> None:
    config = brief(plain_dataset, random_policy, updates=40)
    train_policy(PolicyConfig.model_validate(config.model_dump() | {"updates": 1}), tmp_path)
    path = tmp_path / "training" / "state-000001.safetensors"
    held = load_file(path)
    huge = {name: tensor * 1e38 if name.startswith("adapter/") else tensor for name, tensor in held.items()}
    save_file(huge, path)
    with pytest.raises(Diverged, match=r"has a gradient that is not finite in update 2; train anew with a lower"):
        train_policy(config, tmp_path)
    assert json.loads((tmp_path / "training/state.json").read_bytes())["update"] == 1


def test_an_adapter_of_another_model_is_refused_by_the_first_tensor_that_does_not_fit(
    random_policy: Path, tmp_path: Path
) -> None:
    policy = make_policy(f"tiny:{random_policy}", rank=2, alpha=4)
    other = {
        name: p.detach().clone() for name, p in make_policy(f"tiny:{random_policy}", rank=3, alpha=4).trained().items()
    }
    before = {name: p.detach().clone() for name, p in policy.trained().items()}
    name = sorted(before)[0]
    fault = rf"adapter: is an adapter of another model: {name} is \(3, \d+\), expected \(2, \d+\); give the policy"
    with pytest.raises(BadInput, match=fault):
        put_adapter(Path("adapter"), policy.trained(), other)
    with pytest.raises(BadInput, match=rf"another model: {name} is None, expected \(2"):
        put_adapter(Path("adapter"), policy.trained(), {})
    with pytest.raises(BadInput, match=r"another model: a\.b is \(1,\), expected None"):
        put_adapter(Path("adapter"), policy.trained(), before | {"a.b": torch.zeros(1)})
    with pytest.raises(BadInput, match=rf"holds numbers in {name} that are not finite"):
        put_adapter(Path("adapter"), policy.trained(), before | {name: before[name] / 0})
    assert all(torch.equal(p, before[name]) for name, p in policy.trained().items())


@pytest.mark.parametrize(
    "name", ["adapter.safetensors", LORA_FILE, "figures.jsonl", "curves.png", "training/state.json"]
)
def test_whatever_file_cannot_be_written_is_named(
    plain_dataset: Path, random_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "curves.png":
        monkeypatch.setattr(results, "curves", lambda _, path, **__: path.write_bytes(b""))
    (tmp_path / name / "in its way").mkdir(parents=True)
    with pytest.raises(RegionwiseError, match=rf"{name}: (cannot be written|is a folder, where a file)"):
        train_policy(brief(plain_dataset, random_policy, updates=1), tmp_path)


def test_a_dataset_without_held_out_requests_is_one_clear_line(
    plain_dataset: Path, random_policy: Path, tmp_path: Path
) -> None:
    config = small(plain_dataset, random_policy, held_out_split="test")
    with pytest.raises(BadInput, match=r"has no rows in the split 'test'|no request of the split 'test'"):
        train_policy(config, tmp_path / "policy")
    with pytest.raises(BadInput, match=r"has too few requests of 9 regions; lower min_regions$"):
        train_policy(small(plain_dataset, random_policy, min_regions=9), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


def test_an_instruction_that_is_too_long_is_refused_by_its_words(
    plain_dataset: Path, random_policy: Path, tmp_path: Path
) -> None:
    def lengthen(row: Fields) -> None:
        row["instruction"] = "make it red " * 30

    dataset = rewritten(plain_dataset, tmp_path / "long", lengthen)
    with pytest.raises(BadInput, match=r"^instruction 'make it red .*: has \d+ tokens, more than 32; shorten it$"):
        train_policy(small(dataset, random_policy), tmp_path / "policy")


@pytest.mark.parametrize("steps", [(1, 0), (0, 0), (0, 2), (-1,)])
def test_trained_steps_are_in_order_and_before_the_last(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"trained_steps .* are not (in rising order|all steps before)"):
        small(Path("d"), Path("p"), trained_steps=steps)


def test_the_process_says_what_is_wrong_on_one_line(
    random_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--out", str(tmp_path), "--set", "dataset=nowhere", "--set", "updates=1"]) == 2
    assert train.main(["--out", str(tmp_path), "--set", "updates"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("regionwise: nowhere")
    assert errors[1] == "regionwise: --set 'updates': has no `=`; write NAME=VALUE"


def test_nothing_known_is_of_all_regions(plain_dataset: Path) -> None:
    case = load_cases(plain_dataset, "train")[0][0]
    given = nothing_known(case)
    assert list(given.phi) == list(case.masks)
    assert all(value != value for value in (*given.phi.values(), given.background, given.aesthetics))


def test_tensors_that_are_not_there_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a\.safetensors: does not exist; train the policy anew$"):
        read_adapter(tmp_path / "a.safetensors", {})
