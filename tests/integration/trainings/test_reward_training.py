"""Training, resuming, calibration and the reward that comes out: loaded, refused, the same every time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.dataset.shards import read_dataset
from schemas.errors import BadInput, NewerSchema, RunConflict
from training.reward.calibration import Calibration, coverage, expected_calibration_error, fit
from training.reward.config import RewardConfig, load_config
from training.reward.data import TrainingItem, load_items, query_of
from training.reward.region_reward import RegionReward, load, untrained
from training.reward.train import learning_rate, main, train_reward, whole_image_scores
from training.reward_protocol import Reward, RewardQuery


def tiny(dataset: Path, **changes: object) -> RewardConfig:
    fields = {"side_px": 64, "channels": 8, "text": 8, "hidden": 16, "steps": 6, "batch_requests": 2, "threads": 1}
    fields |= {"checkpoint_steps": 3, "warmup_steps": 2}
    return RewardConfig.model_validate({"dataset": str(dataset), **fields, **changes})


@pytest.fixture(scope="module")
def trained(few_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reward") / "region"
    train_reward(tiny(few_rows), out)
    return out


@pytest.fixture(scope="module")
def queries(built_run: Path) -> list[RewardQuery]:
    return [query_of(row, members) for _, row, members in read_dataset(built_run / "dataset", "train")][:5]


def weights(folder: Path) -> bytes:
    return (folder / "reward.safetensors").read_bytes()


def test_the_same_training_gives_the_same_bytes(few_rows: Path, trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    train_reward(tiny(few_rows), tmp_path / "again")
    assert weights(trained) == weights(tmp_path / "again")
    assert (trained / "reward.json").read_bytes() == (tmp_path / "again/reward.json").read_bytes()
    train_reward(tiny(few_rows, seed=1), tmp_path / "other")
    assert weights(trained) != weights(tmp_path / "other")


def test_a_stopped_training_goes_on_to_the_same_weights(few_rows: Path, trained: Path, tmp_path: Path) -> None:
    config = tiny(few_rows)
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, out, on_step=_interrupt_at(4))
    state = json.loads((out / "training/state.json").read_bytes())
    assert (state["step"], state["finished"]) == (3, False)
    assert not (out / "reward.json").exists()
    train_reward(config, out)
    assert weights(out) == weights(trained)
    assert (out / "curves.json").read_bytes() == (trained / "curves.json").read_bytes()
    assert not list((out / "training").glob("*.safetensors"))


def _interrupt_at(step: int):
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


def test_a_training_with_another_setting_is_refused_by_name(few_rows: Path, trained: Path) -> None:
    with pytest.raises(RunConflict, match=r"learning_rate = 0\.003, now it is 0\.01"):
        train_reward(tiny(few_rows, learning_rate=0.01), trained)


def test_a_finished_training_is_left_as_it_is(few_rows: Path, trained: Path) -> None:
    before = (trained / "reward.json").stat().st_mtime_ns
    metrics = train_reward(tiny(few_rows), trained)
    assert metrics["steps"] == 6
    assert (trained / "reward.json").stat().st_mtime_ns == before


def test_a_training_out_of_time_says_so(few_rows: Path, tmp_path: Path) -> None:
    metrics = train_reward(tiny(few_rows), tmp_path / "short", max_minutes=0.0)
    assert (metrics["stopped"], metrics["steps"]) == ("time", 0)


def test_a_loaded_reward_scores_as_the_protocol_says(trained: Path, queries: list[RewardQuery]) -> None:
    reward: Reward = load(trained)
    assert reward.name == "region"
    predictions = reward.score(queries)
    for query, prediction in zip(queries, predictions, strict=True):
        assert list(prediction.regions) == list(query.masks)
        scores = [s for region in prediction.regions.values() for s in (region.success, region.preserve)]
        for score in (*scores, prediction.background, prediction.artifacts):
            assert score.mean is not None
            assert score.std is not None
            assert 0 <= score.mean <= 25
            assert score.std > 0
    assert predictions == load(trained).score(queries)
    assert predictions != untrained(load(trained).config).score(queries)
    assert reward.score([]) == []


def test_a_region_without_pixels_is_missing(trained: Path, queries: list[RewardQuery]) -> None:
    query = queries[0]
    empty, whole = (np.full(query.edited.shape[:2], value, dtype=np.bool_) for value in (False, True))
    masks = {**query.masks, "0" * 16: empty}
    prediction = load(trained).score([RewardQuery(query.source, query.edited, "Blur it.", masks)])[0]
    assert prediction.regions["0" * 16].success.mean is None
    assert prediction.background.mean is not None
    everything = RewardQuery(query.source, query.edited, "Blur it.", {"1" * 16: whole})
    assert load(trained).score([everything])[0].background.mean is None


def test_rivals_that_are_blind_say_so(few_rows: Path, tmp_path: Path, queries: list[RewardQuery]) -> None:
    train_reward(tiny(few_rows, use_source=False, steps=1), tmp_path / "blind")
    reward = load(tmp_path / "blind")
    assert reward.name == "region:source-blind"
    black = [RewardQuery(np.zeros_like(q.source), q.edited, q.instruction, q.masks) for q in queries]
    assert reward.score(black) == reward.score(queries)


@pytest.mark.parametrize(
    ("field", "value", "error", "words"),
    [
        ("architecture", "other-net/3", BadInput, r"other-net/3.*region-net/2"),
        ("schema", "manifest/1", BadInput, r"manifest.*expected region-reward/1"),
        ("schema", "region-reward/2", NewerSchema, r"region-reward/2"),
        ("config", {}, BadInput, r"dataset"),
        ("calibration", None, BadInput, r"field calibration is NoneType, expected dict; train the reward anew"),
    ],
)
def test_a_reward_of_another_kind_is_refused_by_name(
    trained: Path, tmp_path: Path, field: str, value: object, error: type[Exception], words: str
) -> None:
    document = json.loads((trained / "reward.json").read_bytes()) | {field: value}
    (tmp_path / "reward.json").write_text(json.dumps(document))
    (tmp_path / "reward.safetensors").write_bytes(weights(trained))
    with pytest.raises(error, match=words):
        load(tmp_path)


def test_damaged_or_foreign_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    document = json.loads((trained / "reward.json").read_bytes())
    (tmp_path / "reward.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match="does not exist"):
        load(tmp_path)
    (tmp_path / "reward.safetensors").write_bytes(weights(trained)[:500])
    with pytest.raises(BadInput, match="is no safetensors file"):
        load(tmp_path)
    document["config"]["hidden"] = 24
    (tmp_path / "reward.json").write_text(json.dumps(document))
    (tmp_path / "reward.safetensors").write_bytes(weights(trained))
    with pytest.raises(BadInput, match=r"weight .* expected"):
        load(tmp_path)
    (tmp_path / "reward.json").write_bytes((trained / "reward.json").read_bytes())
    tensors = load_file(trained / "reward.safetensors")
    save_file(tensors | {"region_head.bias": tensors["region_head.bias"] / 0}, tmp_path / "reward.safetensors")
    with pytest.raises(
        BadInput, match=r"holds numbers in region_head\.bias that are not finite; train the reward anew"
    ):
        load(tmp_path)
    with pytest.raises(BadInput, match="train-reward"):
        load(tmp_path / "nowhere")


def test_a_saved_reward_comes_back_as_it_was(trained: Path, tmp_path: Path) -> None:
    reward = load(trained)
    reward.save(tmp_path / "copy")
    assert weights(tmp_path / "copy") == weights(trained)
    assert load(tmp_path / "copy").revision == reward.revision
    changed = RegionReward("region", reward.network, reward.config, {"region.success": Calibration(2.0, 0.0, 1.0)})
    assert changed.revision != reward.revision


def test_whole_image_training_sees_no_region_score(built_run: Path) -> None:
    items: list[TrainingItem] = load_items(built_run / "dataset", "train", 64)[0]
    for item in items:
        blurred = whole_image_scores(item)
        present = ~np.isnan(item.region_scores)
        assert np.array_equal(present, ~np.isnan(blurred.region_scores))
        assert (blurred.region_scores[:, 0][present[:, 0]] == item.image_scores[1]).all()
        assert (blurred.region_scores[:, 1][present[:, 1]] == item.image_scores[2]).all()


def test_the_learning_rate_rises_and_falls(built_run: Path) -> None:
    config = tiny(built_run, steps=100, warmup_steps=10, learning_rate=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(rates[9], rel=0.05)
    assert rates[-1] < 0.003


def test_calibration_finds_the_distortion_that_was_put_in() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 4000)
    share = np.clip(1 / (1 + np.exp(-(0.5 * logit + 1))) + rng.normal(0, 0.05, 4000), 0, 1)
    found = fit(logit, np.full(4000, np.log(0.01)), share)
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.offset == pytest.approx(1, abs=0.05)
    assert found.variance_factor == pytest.approx(0.25, abs=0.05)
    raw, mended = (expected_calibration_error(c.mean(logit), share) for c in (Calibration(), found))
    assert raw is not None
    assert mended is not None
    assert mended < 0.4 < 3 < raw
    assert coverage(found.mean(logit), found.std(np.full(4000, np.log(0.01))), share) == pytest.approx(0.9, abs=0.03)
    assert fit(logit[:5], logit[:5], share[:5]) == Calibration()


def test_calibration_error_by_hand() -> None:
    mean, share = np.full(20, 0.8), np.full(20, 0.6)
    assert expected_calibration_error(mean, share) == pytest.approx(5.0)
    assert expected_calibration_error(mean[:0], share[:0]) is None


def test_settings_are_checked_by_name(tmp_path: Path) -> None:
    (tmp_path / "reward.toml").write_text('dataset = "d"\nstep = 3\n')
    with pytest.raises(BadInput, match="step"):
        load_config(tmp_path / "reward.toml", {})
    with pytest.raises(BadInput, match="does not exist"):
        load_config(tmp_path / "none.toml", {})
    assert load_config(None, {"dataset": "d", "steps": 5}).steps == 5


def test_the_process_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--out", str(tmp_path / "out"), "--set", f"dataset={tmp_path}"])
    assert code == 2
    assert capsys.readouterr().err.startswith(f"regionwise: {tmp_path}: has no manifest.json")
    assert main(["--out", str(tmp_path / "out"), "--set", "dataset"]) == 2
