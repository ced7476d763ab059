"""Trainings of `sam:tiny` through their folder: stopped, gone on, made longer; and what came of the shipped one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import BadInput, RunConflict
from tests.cases.segmenter_cases import QUICK, SMALL
from training.segmenter import data, evaluate
from training.segmenter.checkpoint import (
    pool_in,
    read_metadata,
)
from training.segmenter.evaluate import WEIGHTS, Prompted, contact_sheet, held_out_examples, measure, summary
from training.segmenter.model import new_sam
from training.segmenter.train import train_segmenter


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures of `QUICK` and nothing else; never changed."""
    folder = tmp_path_factory.mktemp("pictures")
    pool_in(folder, QUICK)
    return folder


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(pictures: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_after_three(step: int) -> None:
        if step == 3:
            raise Stopped

    whole, broken = (shutil.copytree(pictures, tmp_path / name) for name in ("whole", "broken"))
    done = train_segmenter(QUICK, whole, sizes=SMALL)
    assert done["steps"] == 4
    with pytest.raises(Stopped):
        train_segmenter(QUICK, broken, on_step=stop_after_three, sizes=SMALL)
    assert json.loads((broken / "state.json").read_bytes())["step"] == 2, "the third step was not kept"
    assert train_segmenter(QUICK, broken, sizes=SMALL)["steps"] == 4
    wanted, found = (load_file(folder / "state-000004.safetensors") for folder in (whole, broken))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    first = {name: tensor for name, tensor in new_sam(SMALL, QUICK.seed).state_dict().items()}
    assert not torch.equal(wanted["weight/mask_decoder.iou_token.weight"], first["mask_decoder.iou_token.weight"])

    with pytest.raises(RunConflict, match=r"clip_norm = 1\.0, now it is 2\.0"):
        train_segmenter(QUICK.model_copy(update={"clip_norm": 2.0}), broken, sizes=SMALL)
    (broken / "state-000004.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        BadInput, match=r"state-000004\.safetensors: is no safetensors file: .*; remove state\.json beside it"
    ):
        train_segmenter(QUICK, broken, sizes=SMALL)


def test_a_training_may_be_made_longer_and_says_so(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    train_segmenter(QUICK.model_copy(update={"steps": 2}), tmp_path, sizes=SMALL)
    assert train_segmenter(QUICK.model_copy(update={"steps": 3}), tmp_path, sizes=SMALL)["steps"] == 3
    made = read_metadata(tmp_path / "sam_tiny.safetensors")
    assert (made["steps"], json.loads(made["lengths"])) == ("3", {"0": 2, "2": 3})


def test_the_shipped_weights_beat_filling_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_GRABCUT_ROUNDS", 1)  # the rival that is not asked about here
    cases = measure(Prompted(WEIGHTS), held_out_examples(2))
    assert len(cases) >= 12
    all_things = summary(cases)[0]["mean_iou"]
    assert all_things["sam:tiny"]["value"] > all_things["box filled"]["value"] + 0.1
    assert contact_sheet(cases, each=2).shape == (6 * data.SIZE_PX, 2 * data.SIZE_PX, 3)
