"""Editors that installed packages offer: known by name, asked like the embedded one, refused in one line."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from pipeline.build import stages_of
from pipeline.build_models import LocalModels
from pipeline.config import BuildConfig
from pipeline.dataset.shards import read_dataset, read_manifest
from pipeline.editors.plugins import FILES_GROUP, GROUP
from pipeline.run.folder import read_kept
from runtime.checkout import CHECKOUT
from schemas.errors import BadInput, MissingPackage
from tests.cases.builds import build
from tests.cases.editor_plugin import offer, offer_inverter


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the editor `inverter`."""
    folder = offer_inverter(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def config(editor: str, **changes: object) -> BuildConfig:
    settings = {"scenes": 4, "scene_size_px": 64, "part_requests": 2, "k": 2, "editor": editor, **changes}
    return BuildConfig.model_validate(settings)


def test_a_build_asks_it_and_knows_no_scores(offered: Path, tmp_path: Path) -> None:
    """With several workers: tests/integration/test_editor_plugin.py."""
    build(tmp_path / "one", config("inverter:1"))
    run, manifest = tmp_path / "one", read_manifest(tmp_path / "one" / "dataset")
    assert manifest.rows > 0
    assert (manifest.unscored, manifest.raters) == (manifest.rows, {})
    said = manifest.build.model_revisions["editor"]
    assert re.fullmatch(r"inverter sha256:[0-9a-f]{64} package=inverters version=1\.0", said or "")
    rejected = next(stage.rejected for stage in manifest.stages if stage.stage == "candidates")
    assert rejected == {"not_this_one": 4}
    rows = [row for split in manifest.splits for _, row, _ in read_dataset(run / "dataset", split)]
    assert {(row.editor, row.revision, row.parameters["strength"]) for row in rows} == {("inverter", "7", 1.0)}
    assert {(row.synthetic_parts, row.rater, row.naturalness) for row in rows} == {(("source", "edit"), None, None)}
    assert all(
        sample.candidate and not sample.scores and not sample.candidate.edits for sample in read_kept(run, "gates", 0)
    )
    card = (run / "dataset" / "README.md").read_text()
    assert "Nobody yet: every score is `null`" in card
    assert "Synthetic rows show scenes that a program drew, or edits by a model" in card


def test_the_embedded_editor_is_what_it_was() -> None:
    plain = BuildConfig(scenes=1)
    stages = stages_of(plain, {}, LocalModels(plain))
    candidates = next(stage for stage in stages if stage.name == "candidates")
    assert (plain.editor, candidates.settings["editor"]) == ("procedural", ["procedural", "3"])


def test_an_unknown_editor_is_one_line_with_the_known_ones(offered: Path) -> None:
    with pytest.raises(BadInput, match=r"^editor 'nosuch:x': is not known; choose one of procedural, .*inverter"):
        config("nosuch:x")
    with pytest.raises(BadInput, match="inverter: has no place None; give a number"):
        LocalModels(config("inverter")).editor()
    with pytest.raises(
        MissingPackage, match=r"editor gone: cannot be loaded from inverter_of_tests:nothing: .*nothing"
    ):
        LocalModels(config("gone")).editor()


def test_defects_are_left_out_by_the_embedded_editor_alone(offered: Path) -> None:
    with pytest.raises(ValueError, match="leave_out_defects is of the editor procedural"):
        config("inverter:0", leave_out_defects=("noise",))


def test_one_name_of_two_packages_is_refused_and_of_one_package_twice_is_not(
    offered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(offered / "same", "copies", {"inverter": "inverter_of_tests:make"})
    monkeypatch.syspath_prepend(str(offered / "same"))
    config("inverter:0")
    offer(offered / "other", "rivals", {"inverter": "rival_of_tests:make"})
    monkeypatch.syspath_prepend(str(offered / "other"))
    with pytest.raises(BadInput, match=r"several packages: inverter_of_tests:make and rival_of_tests:make; uninstall"):
        config("inverter:0")


def test_what_the_project_offers_is_there() -> None:
    offers = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group in (GROUP, FILES_GROUP):
        assert set(offers[group]) == {"policy"}
        module, _, name = offers[group]["policy"].partition(":")
        assert callable(getattr(importlib.import_module(module), name))
