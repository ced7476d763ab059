"""The command line: exit codes, one-line errors, and settings that a file and flags give."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.cli import main
from pipeline.config import load_config
from pipeline.dataset.shards import read_dataset, read_manifest
from runtime.masks import rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import CocoRle

SMALL_FLAGS = ["--scenes", "3", "--scene-size-px", "64", "--k", "2", "--part-requests", "2"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out, err = _run(capsys, *arguments, "--json")
    return code, json.loads(out or err)


def test_a_build_from_nothing_to_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    code, facts = _json(capsys, "build", "--run", run, *SMALL_FLAGS)
    assert (code, facts["parts_made"], facts["requests"]) == (0, 8, 3)
    assert _json(capsys, "build", "--run", run, *SMALL_FLAGS)[1]["parts_made"] == 0
    assert _json(capsys, "verify", run / "dataset") == (
        0,
        {"ok": True, "shards": facts["shards"], "rows": facts["rows"], "errors": []},
    )
    code, status = _json(capsys, "status", run)
    assert (code, [stage["parts_done"] for stage in status["stages"]]) == (0, [2, 2, 2, 2])
    code, report = _json(capsys, "report", run)
    assert code == 0
    assert Path(report["report"]).read_text().startswith("<!doctype html>")
    code, traced = _json(capsys, "trace", run, "scene-0-00001-0")
    assert {row["stage"] for row in traced["rows"]} == {"requests", "candidates", "regions", "gates"}
    assert set(traced["tars"].values()) <= {shard.name for shard in read_manifest(run / "dataset").shards}
    assert len(traced["tars"]) == sum(row["stage"] == "gates" and row["kept"] for row in traced["rows"])
    code, out, _ = _run(capsys, "trace", run, "scene-0-00001-0")
    assert (code, "candidate 2 by procedural" in out, ".tar" in out) == (0, True, True)


def test_human_output_names_the_places(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "resume", "--run", small_run)
    assert code == 0
    assert str(small_run / "dataset" / "manifest.json") in out
    assert "near_duplicate" in out or "gates" in out
    assert _run(capsys, "verify", small_run / "dataset")[0] == 0


def test_a_flipped_byte_is_exit_code_1_and_names_the_shard(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = read_manifest(small_run / "dataset").shards[0].name
    path = small_run / "dataset" / name
    data = bytearray(path.read_bytes())
    data[3_000] ^= 1
    path.write_bytes(bytes(data))
    code, facts = _json(capsys, "verify", small_run / "dataset")
    assert (code, facts["ok"], [error["shard"] for error in facts["errors"]]) == (1, False, [name])
    assert _run(capsys, "repair", "--run", small_run)[0] == 0
    assert _json(capsys, "verify", small_run / "dataset")[1]["ok"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["build", "--run", "r"], "nothing to build from"),
        (["build", "--run", "r", "--requests", "none.jsonl"], "does not exist"),
        (["build", "--run", "r", "--scenes", "x"], "scenes"),
        (["build", "--run", "r", "--scenes", "2", "--editor", "magic"], "magic"),
        (["build", "--run", "r", "--scenes", "2", "--k", "0"], "k:"),
        (["build", "--run", "r", "--scenes", "2", "--scene-textures", "silk"], "silk"),
        (["build", "--run", "r", "--scenes", "2", "--leave-out-defects", "sloth"], "sloth"),
        (["build", "--run", "r", "--scenes", "2", "--image-format", "gif"], "gif"),
        (["build", "--run", "r", "--config", "none.toml"], "none.toml"),
        (["build", "--scenes", "2"], "--run"),
        (["verify", "none"], "manifest.json"),
        (["report", "none"], "run.json"),
        (["resume", "--run", "none"], "run.json"),
        (["dance"], "dance"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    fault: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("regionwise: ")
    assert fault in err
    code, facts = _json(capsys, *arguments)
    assert (code, facts["code"], set(facts)) == (2, 2, {"code", "thing", "fault", "remedy"})


def test_a_run_made_with_other_settings_is_refused_by_name(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, facts = _json(capsys, "build", "--run", small_run, "--scenes", "11")
    assert code == 2
    assert "was made with" in facts["fault"]


def test_a_request_file_that_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = tmp_path / "run", tmp_path / "requests.jsonl"
    _photo(tmp_path / "a.png")
    line = {"id": "a", "sources": ["a.png"], "instruction": "Brighten the middle"}
    target = {"label": "middle", "operation": "relight", "parameters": {"gain": 1.6}, "box": [20, 20, 60, 60]}
    file.write_text(json.dumps(line | {"targets": [target]}) + "\n")
    assert _run(capsys, "build", "--run", run, "--requests", file, "--max-reject-share", "1")[0] == 0
    file.write_text(file.read_text() + "\n")
    code, facts = _json(capsys, "build", "--run", run, "--requests", file, "--max-reject-share", "1")
    assert (code, "its bytes changed" in facts["fault"]) == (2, True)


def test_too_many_rejects_are_exit_code_3_and_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"id": str(n), "sources": ["r.jsonl"], "instruction": "x"} for n in range(4)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = tmp_path / "run"
    code, facts = _json(capsys, "build", "--run", run, "--requests", tmp_path / "r.jsonl")
    assert code == 3
    assert "unreadable" in facts["fault"]
    code, facts = _json(capsys, "build", "--run", run, "--requests", tmp_path / "r.jsonl", "--max-reject-share", "1")
    assert (code, "no sample that passed" in facts["fault"]) == (2, True)
    code, traced = _json(capsys, "trace", run, "2")
    assert [row["record"]["reason"] for row in traced["rows"]] == ["unreadable"]


def _photo(path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(120, 6, (96, 96, 3)) + np.arange(96)[:, None, None], 0, 255).astype(np.uint8)
    Image.fromarray(image).save(path)


def test_brought_candidates_go_through_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _photo(tmp_path / "a.png")
    edited = np.asarray(Image.open(tmp_path / "a.png")).copy()
    edited[30:60, 30:60] = (200, 30, 30)
    Image.fromarray(edited).save(tmp_path / "b.png")
    line = {
        "id": "mine",
        "sources": ["a.png"],
        "instruction": "A red square",
        "targets": [{"label": "square", "box": [30, 30, 60, 60]}],
    }
    line["candidates"] = [{"path": "b.png", "editor": "my-model", "seed": 7}]
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    assert _run(capsys, "build", "--run", tmp_path / "run", "--requests", tmp_path / "r.jsonl")[0] == 0
    traced = _json(capsys, "trace", tmp_path / "run", "mine")[1]["rows"][-1]["record"]
    assert (traced["candidate"]["editor"], traced["candidate"]["synthetic"], traced["scores"]) == (
        "my-model",
        False,
        [],
    )
    assert traced["observed"][0]["status"] == "changed"
    found = rle_to_mask(CocoRle(**traced["observed"][0]["mask"]))
    assert found[30:60, 30:60].mean() == 1
    assert found.sum() < 1.3 * 900  # at most two pixels around the 30 x 30 that changed
    manifest = read_manifest(tmp_path / "run" / "dataset")
    assert (manifest.rows, manifest.synthetic, manifest.raters) == (1, "none", {})


def test_flags_go_over_the_file_and_defaults_do_not(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text(
        "scenes = 5\nk = 3\n[gates]\nmax_aspect = 2.5\n[splits]\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n"
    )
    config = load_config(path, {"k": 2})
    assert (config.scenes, config.k, config.gates.max_aspect, config.splits.test) == (5, 2, 2.5, 0.25)


@pytest.mark.parametrize(
    "text",
    ["scenes = ", "unknown = 1\nscenes = 1", "scenes = 1\n[splits]\ntrain = 0.9", "scenes = 1\n[gates]\nmax_aspct = 2"],
)
def test_a_bad_config_file_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "build.toml").write_text(text)
    with pytest.raises(BadInput, match=r"build\.toml"):
        load_config(tmp_path / "build.toml", {})


def test_a_folder_that_holds_no_run_is_left_alone(
    built_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built_run / "dataset", tmp_path / "dataset")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert _run(capsys, "status", tmp_path)[0] == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_renders_of_a_scene_share_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--scenes", "6", "--scene-renders", "2", "--scene-size-px", "64", "--k", "1", "--part-requests", "3"]
    assert _json(capsys, "build", "--run", tmp_path / "run", *flags)[1]["requests"] > 6
    splits: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        for _, row, _ in read_dataset(tmp_path / "run" / "dataset", split):
            splits.setdefault(row.request_name.rpartition("-")[0], set()).add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_a_build_that_keeps_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps({"id": "a", "sources": ["r.jsonl"], "instruction": "x"}) + "\n")
    flags = ["--requests", tmp_path / "r.jsonl", "--max-reject-share", "1"]
    code, facts = _json(capsys, "build", "--run", tmp_path / "run", *flags)
    assert (code, "no sample that passed the gates" in facts["fault"]) == (2, True)


@pytest.mark.parametrize("flags", [["--image-format", "jpeg"], ["--image-format", "png", "--size-px", "72"]])
def test_a_dataset_of_any_format_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert _run(capsys, "build", "--run", tmp_path / "run", *SMALL_FLAGS, *flags)[0] == 0
    assert _json(capsys, "verify", tmp_path / "run" / "dataset")[1]["errors"] == []


def test_an_instruction_is_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    code, parsed = _json(capsys, "parse", "make the left cup red, but keep the spoon")
    assert (code, parsed["targets"][0]["label"], parsed["keep"]) == (0, "left cup", [{"head": "spoon"}])
    code, out, _ = _run(capsys, "parse", "make the left cup red. Frobnicate wildly")
    assert (code, "left cup: recolour" in out, "unread  Frobnicate wildly" in out) == (0, True, True)
    code, error = _json(capsys, "parse", "把左边的杯子变成红色")
    assert (code, error["code"], "not_english" in error["fault"]) == (2, 2, True)


@pytest.mark.parametrize(
    ("number", "code", "fault", "remedy"),
    [
        (errno.ENOSPC, 2, "cannot be written: it said", "make room and start"),
        (errno.EACCES, 1, "it said", "mend it and start"),
    ],
)
def test_a_disk_that_is_full_is_told_by_the_file_and_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    fault: str,
    remedy: str,
) -> None:
    def fails(*_arguments: object) -> None:
        raise OSError(number, "it said", "there")

    monkeypatch.setattr("flows.rate.rate_run", fails)
    said = _json(capsys, "rate", "--run", tmp_path, "--snapshot", "s")
    told = {"code": code, "thing": "there", "fault": fault, "remedy": f"{remedy} again: what is done is kept"}
    assert said == (code, told)


def test_a_repair_says_what_it_left_in_the_folder(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = small_run / "dataset"
    (dataset / "notes.txt").write_text("mine")
    (dataset / ".gitattributes").write_text("*.tar filter=lfs")
    (dataset / "manifest.json").unlink()
    assert _json(capsys, "repair", "--run", small_run)[1]["left"] == ["notes.txt"]
    code, _, said = _run(capsys, "repair", "--run", small_run)
    assert code == 0
    told = [line for line in said.splitlines() if line.startswith("left as it is")]
    assert told == [f"left as it is: {dataset / 'notes.txt'} is not of the dataset; take it away, or verify finds it"]
    assert (dataset / "notes.txt").read_text() == "mine"
