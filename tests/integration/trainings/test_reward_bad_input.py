"""Datasets that a reward's training must take, count or refuse: whole trainings of a tiny network, from tars."""

from pathlib import Path

import pytest

from pipeline.dataset.shards import read_dataset
from runtime.masks import mask_to_rle, rle_to_mask
from schemas.errors import BadInput, TooManyRejected
from schemas.geometry import CocoRle
from tests.cases.dataset_cases import Fields, of_many_regions, rewritten, unscored
from training.reward.config import RewardConfig
from training.reward.data import load_items, query_of
from training.reward.region_reward import load
from training.reward.train import train_reward


def tiny(dataset: Path, **changes: object) -> RewardConfig:
    fields = {"side_px": 64, "channels": 8, "text": 8, "hidden": 16, "steps": 1, "batch_requests": 2, "threads": 1}
    return RewardConfig.model_validate({"dataset": str(dataset), **fields, **changes})


def test_a_dataset_without_scores_is_one_clear_line(few_rows: Path, tmp_path: Path) -> None:
    bare = rewritten(few_rows, tmp_path / "bare", unscored)
    with pytest.raises(BadInput, match=r"bare, split train: has no scores; have it rated"):
        train_reward(tiny(bare), tmp_path / "reward")
    assert not (tmp_path / "reward").exists()


@pytest.mark.parametrize("count", [1, 40])
def test_rows_of_one_and_of_forty_regions_are_trained_on_and_scored(few_rows: Path, tmp_path: Path, count: int) -> None:
    dataset = rewritten(few_rows, tmp_path / "dataset", of_many_regions(count))
    metrics = train_reward(tiny(dataset), tmp_path / "reward")
    assert metrics["scores"] == (metrics["n_train"] + metrics["n_validation"]) * (2 * count + 5)
    assert metrics["scores_missing"] == 0
    query = query_of(*next(iter(read_dataset(dataset, "train")))[1:])
    (prediction,) = load(tmp_path / "reward").score([query])
    assert len(prediction.regions) == count
    assert all(region.success.mean is not None for region in prediction.regions.values())


def test_masks_of_another_size_are_one_clear_line(few_rows: Path, tmp_path: Path) -> None:
    def cut(row: Fields) -> None:
        for region in row["regions"]:
            mask = rle_to_mask(CocoRle.model_validate(region["mask"]))
            region["mask"] = mask_to_rle(mask[:, :-9].copy()).model_dump(mode="json")

    dataset = rewritten(few_rows, tmp_path / "cut", cut)
    with pytest.raises(BadInput, match=r"^mask of region [0-9a-f]{16}: is \(64, 55\) bool, .* image \(64, 64\)"):
        train_reward(tiny(dataset), tmp_path / "reward")


def test_scores_that_are_no_numbers_are_refused_by_row(few_rows: Path, tmp_path: Path) -> None:
    for number, score in enumerate((float("nan"), float("inf"), 26, -1, "many")):

        def spoil(row: Fields, score: object = score) -> None:
            row["background"] = score

        dataset = rewritten(few_rows, tmp_path / str(number), spoil)
        with pytest.raises(BadInput, match=r"^[0-9a-f]{16}-[0-9a-f]{16}: .*background"):
            train_reward(tiny(dataset), tmp_path / "reward")


def test_missing_scores_are_counted_and_above_the_set_share_they_stop_it(few_rows: Path, tmp_path: Path) -> None:
    def forget(row: Fields) -> None:
        row["naturalness"] = row["aesthetics"] = None

    dataset = rewritten(few_rows, tmp_path / "dataset", forget)
    items, counts = load_items(dataset, "train", 64)
    assert counts.missing == len(items)
    metrics = train_reward(tiny(dataset), tmp_path / "reward")
    assert metrics["scores_missing"] == metrics["n_train"] + metrics["n_validation"]
    share = counts.missing_share
    assert train_reward(tiny(dataset, max_missing_share=share + 0.02), tmp_path / "just")["steps"] == 1
    with pytest.raises(TooManyRejected, match=rf"{counts.missing} of {counts.scores} scores are missing, more than"):
        train_reward(tiny(dataset, max_missing_share=share - 0.02), tmp_path / "over")
    assert not (tmp_path / "over").exists()


def test_whole_image_training_hangs_on_no_regions_score_in_weights_or_calibration(
    few_rows: Path, tmp_path: Path
) -> None:
    def flatten(row: Fields) -> None:
        for region in row["regions"]:
            if region["success"] is not None:
                region |= {"success": 7.0, "preserve": 7.0, "phi": 7.0}

    as_is = rewritten(few_rows, tmp_path / "as-is", lambda row: None)
    manifest = as_is / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"split": "test"', '"split": "validation"'))
    flat = rewritten(as_is, tmp_path / "flat", flatten)
    found = {}
    for supervision in ("image", "regions"):
        configs = [tiny(dataset, supervision=supervision) for dataset in (as_is, flat)]
        outs = [tmp_path / f"{supervision}-{number}" for number in range(2)]
        metrics = [train_reward(config, out) for config, out in zip(configs, outs, strict=True)]
        assert metrics[0]["n_validation"] > 0
        found[supervision] = [(load(out).revision, one["calibration"]) for out, one in zip(outs, metrics, strict=True)]
    assert found["image"][0] == found["image"][1]
    assert found["regions"][0] != found["regions"][1]
