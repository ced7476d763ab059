"""A run's config is read once a process, and again where its `run.json` became another."""

from pathlib import Path

import pytest

from pipeline import prepare
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run, run_info
from schemas.errors import BadInput
from schemas.manifest import BuildInfo

CONFIG = BuildConfig(scenes=2, scene_size_px=64, part_requests=1)


def test_it_is_read_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def read(run: Path) -> BuildInfo:
        reads.append(run)
        return read_build_info(run)

    read_build_info = prepare.read_build_info
    prepare_run(tmp_path, CONFIG)
    monkeypatch.setattr(prepare, "read_build_info", read)
    assert run_info(tmp_path) is run_info(tmp_path)
    assert run_info(tmp_path)[1] == CONFIG
    assert len(reads) == 1
    prepare_run(tmp_path, CONFIG.model_copy(update={"batch_size": "4"}))  # goes into run.json: no other result
    assert run_info(tmp_path)[1].batch_size == "4"


def test_a_folder_without_a_run_is_said_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(BadInput, match="is not a run folder"):
            run_info(tmp_path)
