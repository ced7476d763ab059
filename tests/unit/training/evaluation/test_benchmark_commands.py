"""Benchmarks from the command line: built, edited by an editor of the build, scored, compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.editors.protocol import CannotEdit
from runtime.images import encode_image
from schemas.edit_benchmarks import GeditResult, ImgeditResult, MultiEditResult, PolicyEvaluation
from tests.cases.tiny_policy import random_policy, random_tiny
from tests.unit.training.evaluation.test_gedit import row, write_table
from training.evaluation.benchmark import main, request_of
from training.evaluation.gedit import TASKS
from training.evaluation.multi_edit_items import read_benchmark


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("policy")
    return f"policy:{random_policy(folder / 'policy', random_tiny(folder / 'tiny'))}"


@pytest.fixture(scope="module")
def scenes(plain_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of two plain scenes of a run."""
    folder = tmp_path_factory.mktemp("scenes") / "bench"
    asked = ["build", "--run", plain_dataset.parent, "--split", "all", "--items", "2", "--out", folder]
    assert run(*asked) == 0
    return folder


def noise(side_px: int, seed: int = 0) -> bytes:
    return encode_image(np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8), "png")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_policy_and_the_procedural_editor_on_requests_for_several_regions(
    scenes: Path, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for name, editor in (("policy", policy), ("procedural", "procedural")):
        edits, out = tmp_path / name, tmp_path / f"{name}.json"
        asked = ["edit", "multi-edit", "--benchmark", scenes, "--editor", editor, "--out", edits, "--device", "cpu"]
        assert run(*asked) == 0
        assert "2 edits made by" in capsys.readouterr().out
        assert run(*asked) == 0
        assert "0 edits made by" in capsys.readouterr().out
        named = ["--policy", name, "--out", out]
        assert run("score", "multi-edit", "--benchmark", scenes, "--edits", edits, *named) == 0
        results.append(MultiEditResult.from_json(out.read_bytes(), thing="out"))
        assert (results[-1].not_edited, results[-1].policy) == (0, name)
    noise_phi, edit_phi = (result.overall.region_phi.value for result in results)
    assert noise_phi is not None
    assert edit_phi is not None
    assert noise_phi < edit_phi
    compared = tmp_path / "compared.json"
    assert run("compare", tmp_path / "policy.json", tmp_path / "procedural.json", "--out", compared) == 0
    found = PolicyEvaluation.from_json(compared.read_bytes(), thing="compared")
    assert (found.first, found.second) == ("policy", "procedural")
    assert f"region_phi {edit_phi - noise_phi:+.3f}" in capsys.readouterr().out


def test_a_benchmark_of_held_out_scenes_and_what_a_policy_cannot_edit(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The random policy's tokenizer has few words, so these instructions are too long for it."""
    bench = tmp_path / "bench"
    assert run("build", "--out", bench, "--items", 2, "--size-px", 64) == 0
    assert "2 requests" in capsys.readouterr().out
    edits = tmp_path / "edits"
    asked = ["edit", "multi-edit", "--benchmark", bench, "--editor", policy, "--out", edits, "--device", "cpu"]
    assert run(*asked) == 0
    assert "0 edits made by policy:tiny, 2 left out: long_instruction" in capsys.readouterr().out


def test_a_broken_edit_ends_in_one_line_and_a_missing_one_is_counted(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(read_benchmark(scenes).items()))
    edits, out = tmp_path / "edits", tmp_path / "result.json"
    edits.mkdir()
    (edits / f"{first.id}.png").write_bytes(encode_image(first.source, "png"))
    given = ["score", "multi-edit", "--benchmark", scenes, "--edits", edits, "--policy", "p", "--out", out]
    assert run(*given) == 0
    assert "all right 0.000" in capsys.readouterr().out
    assert MultiEditResult.from_json(out.read_bytes(), thing="out").not_edited == 1
    (edits / f"{first.id}.png").write_bytes(b"no image")
    assert run(*given) == 2
    assert "edit this request anew" in capsys.readouterr().err


def test_a_policy_on_gedit(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = {"bytes": noise(64), "path": None}
    rows = [row(task, f"k{n}", input_image=cell, input_image_raw=cell) for n, task in enumerate(TASKS)]
    small = row(TASKS[0], "small")  # 16 px: the policy refuses it
    bench, edits, out = write_table(tmp_path / "bench", [*rows, small]), tmp_path / "edits", tmp_path / "out.json"
    assert run("edit", "gedit", "--benchmark", bench, "--editor", policy, "--out", edits, "--device", "cpu") == 0
    assert "11 edits made by policy:tiny, 1 left out: refused_size" in capsys.readouterr().out
    assert (edits / "fullset" / TASKS[0] / "en" / "k0_SRCIMG.png").is_file()
    scores = tmp_path / "scores.jsonl"
    answers = [{"key": f"k{n}", "semantics": [9, 4], "quality": [9, 9]} for n in range(11)]
    scores.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    named = ["--policy", "tiny", "--out", out]
    given = ["score", "gedit", "--benchmark", bench, "--edits", edits, *named]
    assert run(*given, "--judge", f"scores:{scores}") == 0
    assert "SC 4.000 (4.000 to 4.000), PQ 9.000 (9.000 to 9.000), O 6.000" in capsys.readouterr().out
    assert GeditResult.from_json(out.read_bytes(), thing="out").report.not_edited == 1
    assert run(*given, "--judge", "pixel-change") == 0
    assert GeditResult.from_json(out.read_bytes(), thing="out").report.synthetic
    assert run(*given) == 2
    assert capsys.readouterr().err.startswith("regionwise: reward 'oracle': is not known")


def test_a_policy_on_imgedit(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "originals").mkdir()
    (tmp_path / "originals" / "one.png").write_bytes(noise(64))
    meta = {key: {"id": "one.png", "prompt": f"Darken {key}.", "edit_type": "alter"} for key in ("1", "2")}
    bench, edits, out = tmp_path / "basic_edit.json", tmp_path / "edits", tmp_path / "out.json"
    bench.write_text(json.dumps(meta))
    asked = ["edit", "imgedit", "--benchmark", bench, "--editor", policy, "--out", edits, "--device", "cpu"]
    assert run(*asked) == 2
    assert capsys.readouterr().err == "regionwise: imgedit: needs the folder of its originals; give it with --images\n"
    images = ["--images", tmp_path / "originals"]
    assert run(*asked, *images) == 0
    told = edits / "result.json"
    told.write_text(json.dumps({"1": "Prompt Compliance: 5\nVisual: 4\nPhysical: 3", "2": "none"}))
    named = ["--policy", "tiny", "--out", out, "--judge", f"official:{told}"]
    assert run("score", "imgedit", "--benchmark", bench, "--edits", edits, *images, *named) == 0
    assert "mean over types 4.000" in capsys.readouterr().out
    found = ImgeditResult.from_json(out.read_bytes(), thing="out")
    assert found.report.missing == {"absent": 1}


def test_what_cannot_be_compared_or_edited_is_one_line(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent.json"
    assert run("compare", absent, absent, "--out", tmp_path / "out.json") == 2
    assert "cannot be read" in capsys.readouterr().err
    assert run("edit", "multi-edit", "--benchmark", scenes, "--editor", "nosuch", "--out", tmp_path / "edits") == 2
    assert "editor 'nosuch': is not known" in capsys.readouterr().err
    assert not (tmp_path / "edits").exists()


def test_a_text_that_is_no_instruction_is_left_out() -> None:
    source = np.zeros((8, 8, 3), dtype=np.uint8)
    assert request_of(source, "Make it red.").id != request_of(source, "Make it blue.").id
    with pytest.raises(CannotEdit):
        request_of(source, " ")
