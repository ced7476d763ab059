"""Rows that a training goes without: by source, by defect, and names that fit nothing."""

from pathlib import Path

import pytest

from pipeline.dataset.shards import read_dataset
from schemas.errors import BadInput
from training.reward.config import RewardConfig, load_config
from training.reward.exclusions import is_left_out, left_out_keys
from training.reward.train import train_reward


def test_rows_are_left_out_by_any_of_their_sources_and_any_defect(built_run: Path) -> None:
    _, row, _ = next(iter(read_dataset(built_run / "dataset", "train")))
    row = row.model_copy(update={"source_names": ("a.png", "b.png"), "defects": ()})
    assert is_left_out(row, frozenset({"b.png"}), frozenset())
    assert not is_left_out(row, frozenset({"c.png"}), frozenset({"warp"}))
    flawed = next(row for _, row, _ in read_dataset(built_run / "dataset", "train") if row.defects)
    assert is_left_out(flawed, frozenset(), frozenset({flawed.defects[-1].kind}))
    assert not is_left_out(flawed, frozenset(), frozenset())


def test_the_keys_are_of_all_splits(built_run: Path) -> None:
    rows = [row for split in ("train", "test") for _, row, _ in read_dataset(built_run / "dataset", split)]
    train, test = rows[0], rows[-1]
    names = (train.source_names[0], test.source_names[0])
    expected = {row.key for row in rows if row.source_names[0] in names}
    assert left_out_keys(built_run / "dataset", names, ()) == expected > {train.key, test.key}
    assert left_out_keys(built_run / "nowhere", (), ()) == frozenset()


@pytest.mark.parametrize("names", [(("nobody.png",), ()), ((), ("wrap",))])
def test_a_name_that_no_row_has_is_refused(built_run: Path, names: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    with pytest.raises(BadInput, match=r"has no row of '(nobody\.png|wrap)'"):
        left_out_keys(built_run / "dataset", *names)


def test_a_training_goes_without_them(built_run: Path, tmp_path: Path) -> None:
    tiny = {"side_px": 32, "channels": 8, "text": 8, "hidden": 16, "steps": 1, "batch_requests": 1, "threads": 1}
    dataset = built_run / "dataset"
    rows = [row for split in ("train", "validation") for _, row, _ in read_dataset(dataset, split)]
    name = rows[0].source_names[0]
    gone = sum(name in row.source_names for row in rows)
    config = load_config(None, {"dataset": str(dataset), **tiny, "leave_out_sources": [name]})
    metrics = train_reward(config, tmp_path / "without")
    assert metrics["n_left_out"] == gone > 0
    assert metrics["n_train"] + metrics["n_validation"] == len(rows) - gone
    everything = tuple({name for row in rows for name in row.source_names})
    with pytest.raises(BadInput, match="has no training row that is not left out"):
        train_reward(
            RewardConfig(dataset=str(dataset), **tiny, leave_out_sources=everything),  # type: ignore[arg-type]
            tmp_path / "nothing",
        )
