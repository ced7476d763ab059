"""Runs and request folders that were moved, and source files that are missing for a while."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.commands import Processes, build_run, resume_run, verify_dataset
from pipeline.build import run_parts, run_stage_part
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.prepare import config_of, prepare_run, run_info
from pipeline.requests.presence import check_sources, try_missing_again
from pipeline.run.folder import STAGES, read_build_info, read_done, write_build_info
from runtime.files import sha256_of_file
from runtime.locks import locked
from schemas.errors import BadInput, RunConflict
from tests.cases.bendings import as_jsonl, picture, requests

N = 3


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `photos/`: a request file, and a source and a candidate for each of its requests."""
    photos = tmp_path / "place" / "photos"
    photos.mkdir(parents=True)
    (photos / "requests.jsonl").write_bytes(as_jsonl(requests(photos)[:N]))
    return tmp_path / "place"


def _config(file: Path | str) -> BuildConfig:
    return BuildConfig(requests=(str(file),), size_px=64, k=1, part_requests=2, max_reject_share=1)


def _built(run: Path, config: BuildConfig | None = None) -> dict[str, str]:
    """The sha256 of each tar of a run that is built, or gone on with as `resume` does."""
    with locked(run), ThreadPoolExecutor(1) as executor:
        if config is None:
            info = read_build_info(run)
            check_sources(run, info)
        else:
            info = prepare_run(run, config)
        try_missing_again(run, info)
        run_parts(run, info.n_parts, executor)
        return {shard.name: shard.sha256 for shard in export_dataset(run, executor).shards}


def _begun(run: Path, config: BuildConfig) -> None:
    """A run whose first part is through the first stage."""
    prepare_run(run, config)
    run_stage_part(str(run), "requests", 0)


@pytest.fixture
def tars(place: Path) -> dict[str, str]:
    return _built(place / "whole", _config(place / "photos"))


def test_a_run_that_moved_with_its_requests_goes_on_to_the_same_bytes(place: Path, tars: dict[str, str]) -> None:
    _begun(place / "run", _config(place / "photos"))
    moved = place.rename(place.parent / "moved")
    assert _built(moved / "run") == tars


def test_a_run_that_moved_alone_goes_on_to_the_same_bytes(place: Path, tars: dict[str, str]) -> None:
    _begun(place / "run", _config(place / "photos"))
    (place.parent / "far" / "away").mkdir(parents=True)
    moved = (place / "run").rename(place.parent / "far" / "away" / "run")
    assert _built(moved) == tars


def test_requests_that_moved_alone_are_asked_for_and_found_by_their_bytes(place: Path, tars: dict[str, str]) -> None:
    run = place / "run"
    _begun(run, _config(place / "photos"))
    (place / "photos").rename(place / "pictures")
    with pytest.raises(BadInput, match=r"photos: is not there; requests name .*--requests PLACE"):
        _built(run)
    assert read_done(run, "requests", 1) is None
    assert _built(run, _config(place / "pictures")) == tars
    changed = place / "pictures" / "requests.jsonl"
    changed.write_text(changed.read_text() + "\n")
    with pytest.raises(RunConflict, match="its bytes changed"):
        prepare_run(run, _config(changed))


def test_a_relative_place_is_found_from_any_folder(
    place: Path, tars: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    _begun(Path("run"), _config("photos"))
    monkeypatch.chdir(place.parent)
    assert _built(place / "run") == tars
    info = read_build_info(place / "run")
    assert list(info.inputs) == ["$RUN/../photos/requests.jsonl"]
    assert config_of(info, place / "run").requests == (str(place / "photos"),)
    assert prepare_run(place / "run", _config(place / "photos" / "requests.jsonl")).inputs == info.inputs


def test_a_model_is_named_from_the_run_and_may_move(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "weights").mkdir()
    (place / "weights" / "run.safetensors").touch()
    settings = _config("photos").model_dump(mode="json") | {"segmenter": "sam:tiny"}
    info = prepare_run(Path("run"), BuildConfig.model_validate(settings))
    assert info.config["segmenter"] == "sam:tiny"
    kept = info.model_copy(update={"config": info.config | {"segmenter": "sam:$RUN/../weights/run.safetensors"}})
    write_build_info(Path("run"), kept)
    assert run_info(Path("run"))[1].segmenter == f"sam:{place / 'weights' / 'run.safetensors'}"
    (place / "weights").rename(place / "models")
    asked = BuildConfig.model_validate(settings | {"segmenter": "sam:models/run.safetensors"})
    with pytest.raises(RunConflict, match="was made with another outliner sam:models"):  # by its bytes, not its place
        prepare_run(Path("run"), asked)


def test_a_build_of_sources_that_are_mostly_absent_does_not_begin(place: Path, tars: dict[str, str]) -> None:
    run, aside = place / "run", place / "aside"
    aside.mkdir()
    for number in range(2):
        (place / "photos" / f"source-{number}.png").rename(aside / f"source-{number}.png")
    with pytest.raises(BadInput, match=r"photos: lacks 2 of 3 sources, 'source-0.png' for one; .*put the files there"):
        _built(run, _config(place / "photos"))
    assert not (run / "run.json").exists()
    shutil.copytree(aside, place / "photos", dirs_exist_ok=True)
    assert _built(run, _config(place / "photos")) == tars


@pytest.mark.parametrize(("name", "reason"), [("source-2.png", "missing_file"), ("edited-2.png", "missing_file")])
def test_a_file_that_was_missing_and_is_there_now_is_tried_again(
    place: Path, tars: dict[str, str], name: str, reason: str
) -> None:
    run, file = place / "run", place / "photos" / name
    data = file.read_bytes()
    file.unlink()
    assert _built(run, _config(place / "photos")) != tars
    done = read_done(run, "requests", 1)
    assert done is not None
    assert done.rejected == {reason: 1}
    assert try_missing_again(run, read_build_info(run)) == 0
    file.write_bytes(data)
    assert _built(run) == tars
    assert try_missing_again(run, read_build_info(run)) == 0


def test_one_candidate_of_several_that_came_is_taken(place: Path) -> None:
    file = place / "photos" / "requests.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["candidates"].append({"path": "late.png"})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _built(place / "run", _config(file))
    late = picture(0)
    late.paste((10, 200, 30), (20, 20, 60, 60))
    late.save(place / "photos" / "late.png")
    assert try_missing_again(place / "run", read_build_info(place / "run")) == 1
    _built(place / "run")
    assert _built(place / "run") == _built(place / "other", _config(file))


def test_what_is_damaged_is_not_lost_while_its_sources_are_away(place: Path, tars: dict[str, str]) -> None:
    run = place / "run"
    assert _built(run, _config(place / "photos")) == tars
    (run / "images" / "sources" / "part-00000.tar").write_bytes(b"damaged")
    aside = (place / "photos").rename(place / "aside")
    with pytest.raises(BadInput, match="photos: is not there"):
        _built(run)
    (place / "photos").mkdir()
    with pytest.raises(BadInput, match=r"lacks 2 of 2 sources"):
        _built(run)
    (place / "photos").rmdir()
    aside.rename(place / "photos")
    assert _built(run) == tars


def test_a_finished_run_needs_no_sources(place: Path, tars: dict[str, str]) -> None:
    run = place / "run"
    assert _built(run, _config(place / "photos")) == tars
    shutil.rmtree(place / "photos")
    assert _built(run) == tars
    assert {stage for stage in STAGES if read_done(run, stage, 0)} == set(STAGES)


def test_a_request_file_is_the_same_however_its_path_is_typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    typed = ("photos", "./photos", "photos/requests.jsonl", place / "photos")
    digests = [prepare_run(place / f"run-{n}", _config(path)).config_digest for n, path in enumerate(typed)]
    assert len(set(digests)) == 1
    (place / "photos").rename(place / "bu\u0308cher")
    assert prepare_run(place / "other", _config("b\u00fccher")).config_digest == digests[0]


def test_two_request_files_of_one_name_are_two_inputs(place: Path) -> None:
    other = shutil.copytree(place / "photos", place / "other")
    both = BuildConfig(requests=(str(place / "photos"), str(other)), size_px=64, k=1, max_reject_share=1)
    before = prepare_run(place / "run", both).config_digest
    lines = (place / "photos" / "requests.jsonl").read_text()
    (place / "photos" / "requests.jsonl").write_text(lines.replace("red", "blue"))
    assert prepare_run(place / "again", both).config_digest != before


def test_the_commands_try_again_and_stop_where_sources_are_away(
    place: Path, tars: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = place / "run", place / "photos" / "source-1.png"
    data = file.read_bytes()
    file.unlink()
    build_run(run, _config(place / "photos"), Processes(workers=1), as_json=True)
    file.write_bytes(data)
    resume_run(run, Processes(workers=1), as_json=False)
    assert "tried again: 1 requests" in capsys.readouterr().err
    assert {path.name: sha256_of_file(path) for path in (run / "dataset").glob("*.tar")} == tars
    (run / "images" / "sources" / "part-00000.tar").write_bytes(b"damaged")
    (place / "photos").rename(place / "aside")
    with pytest.raises(BadInput, match="photos: is not there"):
        resume_run(run, Processes(workers=1), as_json=True)
    capsys.readouterr()
    assert verify_dataset(run / "dataset", True, "0" * 64, as_json=True) == 1
    assert "0" * 12 in capsys.readouterr().out
