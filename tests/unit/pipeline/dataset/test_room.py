"""An export looks at the free disk before it writes: what its tars take at least, and nothing for those that stay."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.dataset.export import NEW, export_dataset
from pipeline.dataset.manifest import shards_digest
from pipeline.dataset.plan import plan_dataset
from pipeline.dataset.room import LEAST_BYTES, least_bytes
from pipeline.dataset.shards import read_manifest
from pipeline.dataset.verify import verify
from pipeline.prepare import config_of
from pipeline.run.folder import read_build_info
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.errors import NoRoom
from schemas.manifest import Manifest


def export(run: Path, scores: str | None = None) -> Manifest:
    with locked(run), workers(1) as executor:
        return export_dataset(run, executor, scores)


def free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=n_bytes))


def test_tars_take_what_their_images_take_and_a_little_more(small_run: Path) -> None:
    info = read_build_info(small_run)
    config = config_of(info, small_run)
    plan = plan_dataset(small_run, info.n_parts, config.splits, config.seed, config.shard_samples)
    taken = sum(shard.size_bytes for shard in read_manifest(small_run / "dataset").shards)
    assert taken / 2 < least_bytes(small_run, plan.shards) - LEAST_BYTES < taken
    assert least_bytes(small_run, ()) == LEAST_BYTES


def test_an_export_without_room_is_told_before_it_writes_and_goes_on_with_room(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_manifest(small_run / "dataset")
    free(monkeypatch, LEAST_BYTES)
    with pytest.raises(NoRoom, match=r"bytes are needed and 65,536 are free on its disk; make room and start again"):
        export(small_run, "oracle")
    assert verify(small_run / "dataset") == (before, [])
    assert not (small_run / NEW).exists()
    again = export(small_run)  # its tars stay
    assert (again.shards, again.scores) == (before.shards, before.scores)
    free(monkeypatch, 10**9)
    assert export(small_run, "oracle").scores == "oracle"


def test_a_dataset_that_is_exported_again_is_the_same_to_a_training(small_run: Path) -> None:
    before = read_manifest(small_run / "dataset").shards
    assert shards_digest(export(small_run).shards) == shards_digest(before)
    assert shards_digest(before[1:]) != shards_digest(before)
