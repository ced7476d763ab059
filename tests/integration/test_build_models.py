"""A build that asks models: GroundingDINO and Sam of the real classes, tiny and random: what they find means nothing.

What is proved is that the stages run through, say why, and take up a run again; what masks are worth is not.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.build import run_parts, stages_of
from pipeline.build_models import LocalModels, model_roles
from pipeline.config import BuildConfig, load_config
from pipeline.models import registry as models
from pipeline.models.cache import ModelCache
from pipeline.models.sam_checkpoint import write_checkpoint
from pipeline.models.sam_files import DOWNLOAD_PAGE
from pipeline.prepare import prepare_run
from pipeline.requests.scenes import render_scene
from pipeline.run.folder import read_build_info, read_rows
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.errors import BadInput, RunConflict
from schemas.sample import Rejection, Sample
from tests.cases.model_cases import write_grounding_dino, write_groundingdino
from tests.cases.sam_cases import SMALL, random_sam

INSTRUCTIONS = {
    "one": "Make the cat red",
    "whole": "Brighten the image",
    "german": "Mach die Tasse rot",
    "nothing": "What a nice photo",
    "many": "Remove the 60 dogs",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, photographs (procedural), and a file of requests without a box."""
    place = tmp_path_factory.mktemp("models")
    write_grounding_dino(write_groundingdino(place), place / "dino")
    small = place / "dino" / "preprocessor_config.json"
    small.write_text(json.dumps(json.loads(small.read_text()) | {"size": {"shortest_edge": 64, "longest_edge": 96}}))
    write_checkpoint(place / "sam.safetensors", random_sam(), SMALL)
    lines = []
    for number, (name, text) in enumerate(INSTRUCTIONS.items()):
        source = render_scene(3, number, 96).image_hwc_u8
        Image.fromarray(source).save(place / f"{name}.png")
        edited = source.copy()
        edited[20:60, 20:60] = 255 - edited[20:60, 20:60]
        Image.fromarray(np.clip(edited * (1.3 if name == "whole" else 1), 0, 255).astype(np.uint8)).save(
            place / f"{name}_edited.png"
        )
        brought = [{"path": f"{name}_edited.png", "editor": "by hand"}]
        lines.append({"id": name, "sources": [f"{name}.png"], "instruction": text, "candidates": brought})
    (place / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def config(folder: Path, **changes: Any) -> BuildConfig:
    settings: dict[str, Any] = {
        "requests": (str(folder / "requests.jsonl"),),
        "detector": f"grounding-dino:{folder / 'dino'}",
        "segmenter": f"sam:{folder / 'sam.safetensors'}",
        "size_px": 96,
    }
    return load_config(None, settings | changes)


def build(run: Path, asked: BuildConfig) -> None:
    with locked(run), workers(1) as executor:
        run_parts(run, prepare_run(run, asked).n_parts, executor)


def test_a_build_without_a_box_runs_through_and_every_reject_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "DetectSettings", _taking_anything)
    monkeypatch.setattr(models, "_LOADED_DETECTOR", ModelCache())
    run = tmp_path / "run"
    build(run, config(folder, batch_size=3))
    rows = list(read_rows(run, "requests", 0))
    kept = {row.request.name: row for row in rows if isinstance(row, Sample)}
    rejected = {row.name: row for row in rows if isinstance(row, Rejection)}
    assert {name: row.reason for name, row in rejected.items()} == {
        "german": "not_english",
        "nothing": "no_target",
        "many": "too_few",
    }
    assert all(INSTRUCTIONS[name] in row.detail for name, row in rejected.items())
    (target,) = kept["one"].request.targets
    assert (target.label, target.box is not None) == ("cat", True)
    assert kept["whole"].request.targets[0].box is None
    observed = [row for row in read_rows(run, "regions", 0) if isinstance(row, Sample)]
    (seen,) = [row for row in observed if row.request.name == "one"]
    assert [region.label for region in seen.planned] == ["cat"]
    assert seen.observed[0].region == seen.planned[0].id
    assert Counter(region.status for region in seen.observed if region.status != "unplanned").total() == 1

    info = read_build_info(run)
    assert info.model_revisions["detector"].startswith("grounding-dino sha256:")
    assert info.model_revisions["outliner"].startswith("sam sha256:")
    again = prepare_run(run, config(folder, batch_size="auto"))
    assert (again.config["batch_size"], again.config_digest) == ("auto", info.config_digest)
    with pytest.raises(RunConflict, match="segmenter"):
        prepare_run(run, config(folder, segmenter="difference"))


def _taking_anything(**settings: Any) -> Any:
    from pipeline.models.detections import DetectSettings

    return DetectSettings(**{"box_threshold": 0.0, "score_threshold": 0.0, **settings})


@pytest.mark.parametrize(
    ("changes", "file", "page"),
    [
        ({"detector": "grounding-dino:{}/none"}, "none", "https://huggingface.co/IDEA-Research/grounding-dino-tiny"),
        ({"detector": "grounding-dino"}, "grounding-dino", "https://huggingface.co/IDEA-Research/grounding-dino-tiny"),
        ({"detector": "groundingdino:{}/a.pth"}, "a.pth", "https://github.com/IDEA-Research/GroundingDINO/releases"),
        ({"segmenter": "sam:{}/sam_vit_h_4b8939.pth"}, "sam_vit_h_4b8939.pth", DOWNLOAD_PAGE),
        ({"segmenter": "sam"}, "sam_vit_b_01ec64.pth", DOWNLOAD_PAGE),
        ({"segmenter": "sam2:{}/none"}, "none", "https://huggingface.co/facebook/sam2.1-hiera-tiny"),
    ],
)
def test_a_missing_checkpoint_is_named_with_its_page_before_anything_is_written(
    tmp_path: Path, changes: dict[str, str], file: str, page: str
) -> None:
    settings = {name: spec.format(tmp_path) for name, spec in changes.items()}
    run = tmp_path / "run"
    with pytest.raises(BadInput) as error:
        prepare_run(run, BuildConfig(scenes=1, **settings))  # type: ignore[arg-type]
    assert file in str(error.value)
    assert page in error.value.remedy
    assert not run.exists()


@pytest.mark.parametrize("batch_size", ["0", "-1", "many", "1.5", 0])
def test_a_batch_size_that_is_none_is_refused(batch_size: object) -> None:
    with pytest.raises(BadInput, match=r"batch_size is .*must be auto or a number from 1"):
        load_config(None, {"scenes": 1, "batch_size": batch_size})


def test_the_same_files_are_loaded_once_and_other_ones_anew(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.safetensors"
    place.write_bytes((folder / "sam.safetensors").read_bytes())
    asked = BuildConfig(scenes=1, segmenter=f"sam:{place}")
    first = LocalModels(asked).outliner()
    assert LocalModels(asked).outliner() is first
    write_checkpoint(place, random_sam(seed=1), SMALL)
    second = LocalModels(asked).outliner()
    assert second.revision != first.revision


def test_without_models_nothing_of_them_is_in_the_stages() -> None:
    plain = BuildConfig(scenes=1)
    assert model_roles(plain) == ()
    for stage in stages_of(plain, {}, LocalModels(plain)):
        assert not {"detector", "outliner"} & set(stage.settings)
