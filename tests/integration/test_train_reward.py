"""`train-reward`, `evaluate` and `push --reward`: processes of their own, and one line where they cannot."""

import json
from pathlib import Path

import pytest

from annotation.raters.routing import Value, by_value
from flows.push_values import VALUES_FILE, ask_values
from flows.train_reward import RewardTraining, TrainingFailed, evaluate_reward_of_run, train_reward_of_run
from pipeline.run.folder import read_build_info, read_kept
from schemas.errors import BadInput
from training.reward.region_reward import load

TINY = ("side_px=64", "channels=8", "text=8", "hidden=16", "steps=1", "threads=1", "batch_requests=2")


def test_it_trains_a_reward_and_a_blind_rival_beside_it(small_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_reward_of_run(small_run, RewardTraining(settings=TINY), "source", False, True)
    metrics = json.loads(capfd.readouterr().out)
    assert metrics["steps"] == 1
    assert load(small_run / "reward/source-blind").name == "region:source-blind"


def test_what_is_wrong_comes_with_its_exit_code(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest\.json"):
        train_reward_of_run(tmp_path, RewardTraining(settings=TINY), None, False, True)
    with pytest.raises(BadInput, match=r"settings: steps"):
        train_reward_of_run(small_run, RewardTraining(settings=("steps=none",)), None, False, True)
    with pytest.raises(TrainingFailed) as error:
        train_reward_of_run(small_run, RewardTraining(settings=(*TINY, "backbone=none")), None, False, True)
    assert error.value.exit_code == 2
    with pytest.raises(BadInput, match="rival without source and for all"):
        train_reward_of_run(small_run, RewardTraining(settings=TINY), "source", True, True)


def test_a_reward_is_trained_with_its_rivals_and_tested_beside_them(
    small_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"has no trained reward.*train-reward"):
        evaluate_reward_of_run(small_run / "dataset", None, 2, True)
    train_reward_of_run(small_run, RewardTraining(settings=(*TINY, "seed=7")), None, True, True)
    assert len(capfd.readouterr().out.splitlines()) == 3
    evaluate_reward_of_run(small_run, None, 2, True)
    found = json.loads((small_run / "reward/metrics.json").read_bytes())
    assert {"pixel_difference", "untrained", "source_blind", "instruction_blind"} <= set(found["rivals"])
    with pytest.raises(TrainingFailed) as error:
        evaluate_reward_of_run(small_run, "no-such-defect", 2, True)
    assert error.value.exit_code == 2


def test_the_reward_of_the_product_says_what_it_doubts_of_a_real_run(small_run: Path) -> None:
    path = ask_values(small_run, "region")
    assert path == small_run / VALUES_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [row for part in range(read_build_info(small_run).n_parts) for row in read_kept(small_run, "gates", part)]
    assert [line["candidate"] for line in lines] == [row.key.partition("-")[2] for row in kept]
    assert all(line["reward_std"] > 0 for line in lines)
    assert len({line["reward_std"] for line in lines}) > len(lines) / 2
    worth = {line["candidate"]: line["reward_std"] * line["mask_doubt"] for line in lines}
    ordered = by_value([Value(**line) for line in lines])
    assert [worth[one] for one in ordered] == sorted(worth.values(), reverse=True)


def test_a_reward_that_is_none_writes_nothing(small_run: Path) -> None:
    with pytest.raises(TrainingFailed) as error:
        ask_values(small_run, "rubbish")
    assert error.value.exit_code == 2
    assert not (small_run / VALUES_FILE).exists()
