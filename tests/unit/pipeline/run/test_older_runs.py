"""A run folder made by an older version goes on as it is, or is refused on one line that names the version.

`tests/golden/run-7c39e36.tar.xz` was built at commit 7c39e36 (`build --scenes 2 --scene-size-px 64 --size-px 64 --k 1
--scene-textures plain --part-requests 1`). Where a stage's result changes on purpose, its `version` or its model's
revision goes up, and the stages from there on are made anew: `MADE_ANEW` then says so.
"""

import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.build import PartResult, run_parts
from pipeline.dataset.export import export_dataset
from pipeline.dataset.shards import read_dataset
from pipeline.dataset.verify import verify
from pipeline.prepare import config_of, prepare_run
from pipeline.report.page import write_report
from pipeline.run.folder import STAGES, read_build_info, read_rows
from pipeline.run.workers import workers
from runtime.checkout import CHECKOUT
from runtime.locks import locked
from schemas.errors import BadInput, NewerSchema, RegionwiseError
from schemas.manifest import Manifest

#: Candidates are brought into the frame of their source, and gates, which `requests` has too, got settings for it.
MADE_ANEW = set(STAGES)


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    with tarfile.open(CHECKOUT / "tests" / "golden" / "run-7c39e36.tar.xz") as tar:
        tar.extractall(tmp_path / "golden", filter="data")
    return tmp_path / "golden"


def _gone_on_with(run: Path) -> tuple[Manifest, set[str]]:
    """The manifest, and the stages that were made anew."""
    results: list[PartResult] = []
    with locked(run), workers(1) as executor:
        info = prepare_run(run, config_of(read_build_info(run), run))
        run_parts(run, info.n_parts, executor, results.append)
        return export_dataset(run, executor), {result.done.stage for result in results if result.worked}


def _rows(run: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """The rows of its dataset: keys, candidates' pixels, and the planned regions. Masks come without the old search for
    shifts, which took an edit for one in such small scenes."""
    return [
        (row.key, row.edited_pixels_sha256, tuple(region.region for region in row.regions if region.planned_box))
        for _, row, _ in read_dataset(run / "dataset", "train")
    ]


def test_it_goes_on_and_no_more_than_that_is_made_anew(older_run: Path) -> None:
    before, faults = verify(older_run / "dataset")
    rows = _rows(older_run)
    assert faults == []
    after, made = _gone_on_with(older_run)
    assert made == MADE_ANEW
    assert [shard.samples for shard in after.shards] == [shard.samples for shard in before.shards]
    assert _rows(older_run) == rows
    assert verify(older_run / "dataset") == (after, [])


def test_its_last_stages_are_made_of_its_first_ones(older_run: Path) -> None:
    before = _rows(older_run)
    for name in ("regions", "gates", "dataset", "export"):
        shutil.rmtree(older_run / name)
    _, made = _gone_on_with(older_run)
    assert made == MADE_ANEW | {"regions", "gates"}
    assert _rows(older_run) == before


def test_every_row_is_read_and_the_report_written(older_run: Path) -> None:
    for stage in STAGES:
        assert [len(list(read_rows(older_run, stage, part))) for part in range(2)] == [1, 1]
    assert write_report(older_run).stat().st_size > 10_000


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "error", "said"),
    [
        ("run.json", "build-info/1", "build-info/2", NewerSchema, "schema build-info/2; this version reads up to"),
        ("gates/part-00000.done.json", "part-done/1", "part-done/3", NewerSchema, "schema part-done/3; this version"),
        ("dataset/manifest.json", "manifest/1", "manifest/3", NewerSchema, "schema manifest/3; this version reads"),
        ("run.json", '"segmenter": "difference"', '"segmenter": "another"', BadInput, "segmenter 'another'"),
        ("run.json", '"k": 1,', '"k": 1, "wings": 2,', BadInput, "wings: Extra inputs"),
    ],
)
def test_what_this_version_does_not_know_is_refused_on_one_line(
    older_run: Path, name: str, old: str, new: str, error: type[RegionwiseError], said: str
) -> None:
    _change(older_run / name, old, new)
    with pytest.raises(error, match=said) as caught:
        _gone_on_with(older_run) if not name.startswith("dataset") else verify(older_run / "dataset")
    assert "\n" not in str(caught.value)
