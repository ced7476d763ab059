"""Which model it is: every byte and every setting of its answers counts, not where it runs nor when it came."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.models import registry
from pipeline.models.detections import DetectSettings
from pipeline.models.registry import detector_source, prompt_segmenter_source
from pipeline.models.revisions import (
    ModelSource,
    as_they_were,
    changes,
    file_sha256,
    files_below,
    identify,
    remember,
    revision,
    settings_of_answers,
)
from pipeline.models.sam import SamSettings
from pipeline.models.sam_transformers import SegmentSettings
from schemas.errors import BadInput, RunConflict

MIB = 1 << 20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two MiB of weights, as they lay there for a day."""
    path = tmp_path / "model" / "weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"\x3f" * (2 * MIB))
    return aged(path)


def aged(path: Path, days: int = 1) -> Path:
    time = path.stat().st_ctime_ns - days * 86_400 * 10**9
    os.utime(path, ns=(time, time))
    return path


def source(*paths: Path, **settings: float) -> ModelSource:
    return ModelSource("sam", paths[0].parent, paths, settings)


def revision_of(*paths: Path, **settings: float) -> str:
    return revision(identify(source(*paths, **settings)))


def test_every_byte_and_setting_counts_and_no_time(weights: Path, tmp_path: Path) -> None:
    first = revision_of(weights, threshold=0.35)
    assert revision_of(aged(weights, days=2), threshold=0.35) == first
    assert revision_of(weights, threshold=0.36) != first
    assert revision_of(weights) != first
    copy = tmp_path / "elsewhere" / weights.name
    copy.parent.mkdir()
    copy.write_bytes(weights.read_bytes())
    assert revision_of(copy, threshold=0.35) == first
    weights.write_bytes(b"\x3f" * MIB + b"\0" * MIB)
    assert revision_of(weights, threshold=0.35) != first
    other = weights.with_name("other.safetensors")
    other.write_bytes(copy.read_bytes())
    assert revision_of(other, threshold=0.35) != first
    assert revision_of(copy, other, threshold=0.35) != first


def test_a_file_is_hashed_once_until_its_size_time_or_inode_differs(weights: Path) -> None:
    first, stat = file_sha256(weights), weights.stat()
    before = weights.read_bytes()
    with weights.open("r+b") as file:
        file.write(b"\0")
    os.utime(weights, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert file_sha256(weights) == first  # nobody looked into it again
    assert file_sha256(aged(weights, days=3)) != first
    weights.write_bytes(before)
    assert file_sha256(aged(weights, days=4)) == first
    other = weights.with_name("other")
    other.write_bytes(b"\0" * 2 * MIB)
    os.utime(other, ns=(weights.stat().st_mtime_ns,) * 2)
    other.replace(weights)
    assert file_sha256(weights) != first


def test_a_file_that_was_just_written_is_hashed_again(weights: Path) -> None:
    weights.write_bytes(b"a")
    first, stat = file_sha256(weights), weights.stat()
    weights.write_bytes(b"b")
    os.utime(weights, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert file_sha256(weights) != first


def test_what_a_run_keeps_is_taken_over_where_the_file_was_at_rest(weights: Path) -> None:
    (file,) = identify(source(weights)).files
    told = file.model_copy(update={"sha256": "0" * 64})
    remember([told], file.mtime_ns + 10**9)
    assert file_sha256(weights) == file.sha256
    remember([told], file.mtime_ns + 3 * 10**9)
    assert file_sha256(weights) == "0" * 64


def test_what_changed_is_named(weights: Path) -> None:
    vocabulary = weights.with_name("vocab.txt")
    vocabulary.write_text("a")
    before = identify(source(weights, vocabulary, threshold=0.35))
    weights.write_bytes(b"x")
    other = weights.with_name("config.json")
    other.write_text("{}")
    now = identify(source(weights, other, threshold=0.4))
    assert changes(before, now) == [
        f"{vocabulary} is gone",
        f"{other} is new",
        f"the bytes of {weights} changed",
        "threshold was 0.35 and is 0.4",
    ]
    assert changes(before, before) == []


def test_a_model_is_loaded_of_the_files_that_the_run_keeps(weights: Path) -> None:
    files = identify(source(weights)).files
    with as_they_were(files):
        pass
    aged(weights, days=2)
    with as_they_were(files):  # the same bytes, copied or touched
        pass
    with pytest.raises(RunConflict, match=rf"^{weights}: changed while its model was loaded; put it back"):
        with as_they_were(files):
            weights.write_bytes(b"other")
    with pytest.raises(RunConflict, match=rf"^{weights}: changed since the build was started; put it back"):
        with as_they_were(files):
            raise AssertionError("loaded")
    weights.unlink()
    with pytest.raises(RunConflict, match=rf"^{weights}: is gone since the build was started; put it back"):
        with as_they_were(files):
            raise AssertionError("loaded")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.pth: cannot be read: No such file"):
        file_sha256(tmp_path / "none.pth")


def test_files_below_a_place(weights: Path, tmp_path: Path) -> None:
    (weights.parent / "back").symlink_to(weights.parent)
    (weights.parent / "link").symlink_to(weights)
    os.mkfifo(weights.parent / "pipe")
    assert sorted(files_below(weights.parent)) == [weights.parent / "link", weights]
    assert files_below(weights) == [weights]
    assert files_below(tmp_path / "none") == files_below(Path("x" * 5_000)) == []


@pytest.mark.parametrize("settings", [DetectSettings(), SamSettings(), SegmentSettings()])
def test_settings_of_answers_are_all_but_those_of_the_machine(settings: object) -> None:
    machine = {"device", "batch_size", "cached_images", "workers", "max_answer_bytes", "images", "prompts"}
    assert set(settings_of_answers(settings)) == set(asdict(settings)) - machine  # type: ignore[call-overload, arg-type]


def test_the_detector_s_thresholds_are_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "grounding-dino"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("nothing of it is read")
    spec = f"grounding-dino:{tmp_path}"
    first = identify(detector_source(spec))
    assert [file.name for file in first.files] == ["config.json", "model.safetensors"]
    monkeypatch.setattr(registry, "DetectSettings", lambda: DetectSettings(box_threshold=0.4))
    other = identify(detector_source(spec))
    assert revision(other) != revision(first)
    assert changes(first, other) == ["box_threshold was 0.35 and is 0.4"]
    monkeypatch.setattr(registry, "DetectSettings", lambda: DetectSettings(batch_size=1))
    assert identify(detector_source(spec)) == first


def test_the_segmenter_s_cleaning_is_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    path.write_bytes(b"weights")
    found = prompt_segmenter_source(f"sam:{path}")
    assert found.settings == {"hole_share": 0.01, "island_share": 0.01, "multimask": "ambiguous", "precision": "auto"}
    other = replace(found, settings=settings_of_answers(SamSettings(hole_share=0.02)))
    assert revision(identify(other)) != revision(identify(found))
    assert prompt_segmenter_source("sam:tiny").settings["multimask"] == "always"
