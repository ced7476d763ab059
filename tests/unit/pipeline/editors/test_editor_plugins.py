"""Editors that installed packages offer: known by name, asked like the embedded one, refused in one line."""

import hashlib
import importlib
import tomllib
from pathlib import Path

import pytest

from pipeline.build import make_editor, prepare_run, run_parts, stages_of
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.dataset.shards import read_dataset, read_manifest
from pipeline.editors.plugins import GROUP
from pipeline.run.folder import read_kept
from pipeline.run.workers import workers
from runtime.checkout import CHECKOUT
from runtime.locks import locked
from schemas.errors import BadInput, MissingPackage
from tests.cases.tiny_policy import offer

#: A plug-in that turns the image's colours around and refuses what its place says.
INVERTER = """
import numpy as np
from pipeline.editors.protocol import CannotEdit, Edit
from schemas.errors import BadInput


class Inverter:
    name, revision, synthetic = "inverter", "7", True

    def __init__(self, refused):
        self.refused = refused

    def edit(self, request, sources, index, seed):
        if index == self.refused:
            raise CannotEdit("not_this_one", f"candidate {index}")
        image = sources[0].copy()
        image[: 20 + index] = 255 - image[: 20 + index]
        return Edit(image=np.ascontiguousarray(image), seed=seed, parameters={"strength": 1.0})


def make(place, device):
    if place is None or not place.isdecimal():
        raise BadInput("editor inverter", f"has no place {place}", "give a number")
    return Inverter(int(place))
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the editor `inverter`."""
    folder = tmp_path / "packages"
    offer(folder, "inverters", {"inverter": "inverter_of_tests:make", "gone": "inverter_of_tests:nothing"})
    (folder / "inverter_of_tests.py").write_text(INVERTER)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def config(editor: str, **changes: object) -> BuildConfig:
    settings = {"scenes": 4, "scene_size_px": 64, "part_requests": 2, "k": 2, "editor": editor, **changes}
    return BuildConfig.model_validate(settings)


def build(run: Path, asked: BuildConfig, n_workers: int) -> dict[str, str]:
    with locked(run), workers(n_workers) as executor:
        run_parts(run, prepare_run(run, asked).n_parts, executor)
        export_dataset(run, executor)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (run / "dataset").glob("*.tar")}


def test_a_build_asks_it_on_any_number_of_workers_and_knows_no_scores(offered: Path, tmp_path: Path) -> None:
    asked = config("inverter:1")
    one = build(tmp_path / "one", asked, 1)
    assert one == build(tmp_path / "two", asked, 2)
    run, manifest = tmp_path / "one", read_manifest(tmp_path / "one" / "dataset")
    assert manifest.rows > 0
    assert (manifest.unscored, manifest.raters) == (manifest.rows, {})
    assert manifest.build.model_revisions["editor"] == "inverter 7"
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
    candidates = next(stage for stage in stages_of(plain) if stage.name == "candidates")
    assert (plain.editor, candidates.settings["editor"]) == ("procedural", ["procedural", "3"])


def test_an_unknown_editor_is_one_line_with_the_known_ones(offered: Path) -> None:
    with pytest.raises(BadInput, match=r"^editor 'nosuch:x': is not known; choose one of procedural, .*inverter"):
        config("nosuch:x")
    with pytest.raises(BadInput, match="inverter: has no place None; give a number"):
        make_editor(config("inverter"))
    with pytest.raises(
        MissingPackage, match=r"editor gone: cannot be loaded from inverter_of_tests:nothing: .*nothing"
    ):
        make_editor(config("gone"))


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
    offers = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    assert set(offers) == {"policy"}
    for value in offers.values():
        module, _, name = value.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
