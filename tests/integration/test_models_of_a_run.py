"""The models of a run: said without loading one, kept, compared when the build is started again."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import run_stage_part, stages_of
from pipeline.build_models import LocalModels, check_models, identify_models, model_roles, revisions_of
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run
from pipeline.run.folder import read_build_info
from schemas.errors import BadInput, RunConflict
from schemas.manifest import BuildInfo
from tests.cases.editor_plugin import offer, offer_inverter, offer_watched


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file where a Sam would be; nobody gets to read what is in it."""
    path = tmp_path / "sam.safetensors"
    path.write_bytes(b"weights")
    os.utime(path, ns=(10**18, 10**18))
    return path


def config(**changes: Any) -> BuildConfig:
    settings = {"scenes": 2, "scene_size_px": 64, "size_px": 64, "k": 1, "scene_textures": ("plain",), **changes}
    return BuildConfig.model_validate(settings)


def conflict(run: Path, asked: BuildConfig) -> str:
    """What is said where the run is started again; nothing of it is changed."""
    before = {path: path.read_bytes() for path in run.glob("*.json")}
    with pytest.raises(RunConflict) as error:
        prepare_run(run, asked)
    with pytest.raises(RunConflict) as again:
        check_models(run, read_build_info(run), asked)
    assert str(error.value) == str(again.value)
    assert {path: path.read_bytes() for path in run.glob("*.json")} == before
    return str(error.value)


def test_a_run_keeps_its_models_and_is_refused_with_another_by_name(weights: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "run", config(segmenter=f"sam:{weights}")
    info = prepare_run(run, asked)
    assert info.model_revisions["outliner"].startswith("sam sha256:")
    assert "multimask=ambiguous" in info.model_revisions["outliner"]
    assert prepare_run(run, asked) == info
    before = weights.read_bytes()
    weights.write_bytes(b"weightz")
    assert conflict(run, asked) == (
        f"{run}: was made with another outliner sam:{weights}: the bytes of {weights} changed; put it back, "
        "or give another --run"
    )
    weights.write_bytes(before)
    assert prepare_run(run, asked) == info
    weights.unlink()
    with pytest.raises(BadInput, match=rf"^{weights}: does not exist; download a checkpoint from https://github.com"):
        prepare_run(run, asked)


def test_what_is_kept_is_made_anew_where_it_is_damaged_or_the_file_was_touched(weights: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "run", config(segmenter=f"sam:{weights}")
    info = prepare_run(run, asked)
    kept = run / "model_files.json"
    whole = kept.read_bytes()
    (said,) = json.loads(whole)["models"]["outliner"]["files"]
    assert (said["path"], said["mtime_ns"], said["size_bytes"]) == (str(weights), 10**18, 7)
    for damaged in (b"", b"{", b"[]", b"\xff", whole.replace(b"inode", b"node"), whole.replace(b"files/1", b"files/9")):
        kept.write_bytes(damaged)
        assert prepare_run(run, asked) == info
        assert kept.read_bytes() == whole
    os.utime(weights, ns=(10**18, 10**18 + 1))
    assert prepare_run(run, asked) == info
    assert json.loads(kept.read_bytes())["models"]["outliner"]["files"][0]["mtime_ns"] == 10**18 + 1
    kept.write_text("{")
    weights.write_bytes(b"other")
    assert f"with another outliner sam:{weights}: it was sam sha256:" in conflict(run, asked)


def test_a_build_without_models_keeps_nothing(tmp_path: Path) -> None:
    info = prepare_run(tmp_path / "run", config())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["plan", "run.json"]
    assert info.model_revisions == {"editor": "3", "segmenter": info.model_revisions["segmenter"]}
    assert model_roles(config()) == ()


def test_a_run_of_an_earlier_version_goes_on_without_models_alone(weights: Path, tmp_path: Path) -> None:
    run, asked = tmp_path / "run", config(segmenter=f"sam:{weights}")
    info = prepare_run(run, asked)
    older = {**info.model_revisions, "outliner": "sam:custom sha256:0123456789abcdef fp32 multimask=ambiguous"}
    (run / "run.json").write_text(info.model_copy(update={"model_revisions": older, "digest": None}).model_dump_json())
    assert conflict(run, asked) == (
        f"{run}: was made by an earlier version, which kept no hash of all bytes of its outliner sam:{weights}; "
        "finish it with that version, or give another --run"
    )


def test_stages_say_their_models_and_ask_for_none(weights: Path, tmp_path: Path) -> None:
    asked = config(segmenter=f"sam:{weights}")
    revisions = revisions_of(identify_models(tmp_path, asked))
    settings = {stage.name: stage.settings for stage in stages_of(asked, revisions, NoModels())}
    assert settings["regions"]["outliner"] == revisions["outliner"].split(" ", 1)
    assert settings["candidates"]["editor"] == ["procedural", "3"]
    plain = {stage.name: stage.settings for stage in stages_of(config(), {}, NoModels())}
    assert settings["regions"] == plain["regions"] | {"outliner": settings["regions"]["outliner"]}
    with pytest.raises(BadInput, match=r"^run.json: names no model as the outliner"):
        stages_of(asked, {}, NoModels())


class NoModels:
    """Fails whoever asks."""

    def detector(self) -> Any:
        raise AssertionError("asked for the detector")

    def outliner(self) -> Any:
        raise AssertionError("asked for the outliner")

    def editor(self) -> Any:
        raise AssertionError("asked for the editor")


def started(run: Path, asked: BuildConfig) -> BuildInfo:
    info = prepare_run(run, asked)
    run_stage_part(str(run), "requests", 0)
    return info


def test_an_editor_is_loaded_for_its_first_row_and_of_the_run_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, run = tmp_path / "editor", tmp_path / "run"
    monkeypatch.syspath_prepend(str(offer_watched(tmp_path / "packages", place)))
    asked = config(editor=f"watched:{place}", segmenter="difference")
    info = started(run, asked)
    assert info.model_revisions["editor"].startswith("watched sha256:")
    assert info.model_revisions["editor"].endswith(" package=watched version=1.0")
    assert not (place / "imported").exists()
    weights = place / "weights.bin"
    weights.write_bytes(b"changed")
    with pytest.raises(RunConflict, match=rf"^{weights}: changed since the build was started; put it back"):
        run_stage_part(str(run), "candidates", 0)
    assert not (place / "imported").exists()
    weights.write_bytes(b"weights")
    assert run_stage_part(str(run), "candidates", 0)[1]
    assert (place / "loaded").exists()
    assert prepare_run(run, asked) == info  # what the editor wrote beside its files is none of them


def test_an_editor_that_says_nothing_is_all_files_of_its_place_and_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, place = offer_inverter(tmp_path / "packages"), tmp_path / "1"
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.chdir(tmp_path)
    run, asked = tmp_path / "run", config(editor="inverter:1")
    prepare_run(run, asked)
    place.mkdir()
    (place / "a").write_text("a")
    assert f"another editor inverter:1: {place / 'a'} is new; put" in conflict(run, asked)
    (place / "a").unlink()
    offer(packages, "inverters", {"inverter": "inverter_of_tests:make"}, version="1.1")
    assert "another editor inverter:1: version was '1.0' and is '1.1'; put" in conflict(run, asked)


def test_the_embedded_editor_is_one_of_the_models_of_this_process(tmp_path: Path) -> None:
    models = LocalModels(config(leave_out_defects=("noise",)), tmp_path)
    assert models.editor() is models.editor()
    assert models.editor().revision == "3 without noise"
