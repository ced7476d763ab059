"""The stage contract: a part exists when its done-file does, and runs again only where its input or files differ."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.run.folder import done_path, read_done, read_kept, read_rows, rows_path
from pipeline.run.stage import PartImages, Stage, run_part
from schemas.errors import BadInput, DamagedFile, StageFailed
from schemas.request import EditRequest, Source
from schemas.sample import Rejection, Sample


def _sample(number: int, images: PartImages) -> Sample:
    image = np.full((8, 8, 3), number, dtype=np.uint8)
    source = Source(name="a.png", origin_sha256="0" * 64, pixels_sha256="0" * 64, width_px=8, height_px=8)
    request = EditRequest(
        id=f"{number:016x}",
        name=f"r{number}",
        kind="single",
        sources=(source,),
        instruction="Make it red",
        edit_type="recolour",
        synthetic=True,
    )
    return Sample(key=request.id, request=request, sources=(images.add(image).ref,))


def _first(rows: Iterable[int], images: PartImages) -> Iterator[Sample | Rejection]:
    for number in rows:
        if number == 3:
            yield Rejection(key="r3", name="r3", stage="requests", reason="odd", detail="three")
        else:
            yield _sample(number, images)


def _second(rows: Iterable[Sample], images: PartImages) -> Iterator[Sample]:
    for row in rows:
        assert images.read(row.sources[0]).max() == int(row.key, 16)
        yield row


FIRST = Stage("requests", 1, None, _first, images="sources")
SECOND = Stage("candidates", 1, "requests", _second)


def _plan(path: Path) -> Iterator[int]:
    return (int(line) for line in path.read_text().split())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "part-00000.jsonl").write_text("1 2 3 4")
    return tmp_path


def _run(run: Path, stage: Stage) -> bool:
    return run_part(run, stage, 0, plan_rows=_plan)[1]


def test_a_part_is_run_once_and_counted(run: Path) -> None:
    assert _run(run, FIRST)
    assert not _run(run, FIRST)
    done = read_done(run, "requests", 0)
    assert done is not None
    assert (done.rows_in, done.kept, done.rejected, done.attempts) == (4, 3, {"odd": 1}, 1)
    assert [row.key for row in read_rows(run, "requests", 0)] == [f"{1:016x}", f"{2:016x}", "r3", f"{4:016x}"]
    assert len(list(read_kept(run, "requests", 0))) == 3


def test_a_stage_needs_the_one_before_it(run: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        _run(run, SECOND)
    _run(run, FIRST)
    assert _run(run, SECOND)


def test_other_settings_another_version_or_another_plan_run_it_again(run: Path) -> None:
    _run(run, FIRST)
    assert _run(run, Stage("requests", 2, None, _first, images="sources"))
    assert _run(run, Stage("requests", 2, None, _first, images="sources", settings={"size_px": 9}))
    (run / "plan" / "part-00000.jsonl").write_text("1 2 3")
    assert _run(run, FIRST)


def test_a_later_stage_runs_again_when_its_input_changed(run: Path) -> None:
    _run(run, FIRST)
    _run(run, SECOND)
    assert not _run(run, SECOND)
    (run / "plan" / "part-00000.jsonl").write_text("1 2")
    _run(run, FIRST)
    assert _run(run, SECOND)


@pytest.mark.parametrize("name", ["requests/part-00000.parquet", "images/sources/part-00000.tar"])
def test_a_damaged_or_missing_file_is_made_anew_with_the_same_bytes(run: Path, name: str) -> None:
    _run(run, FIRST)
    path = run / name
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    assert _run(run, FIRST)
    assert path.read_bytes() == whole
    path.unlink()
    assert _run(run, FIRST)
    assert path.read_bytes() == whole


def test_a_stage_that_fails_leaves_no_part_and_is_counted(run: Path) -> None:
    def fails(rows: Iterable[int], images: PartImages) -> Iterator[Sample]:
        yield _sample(1, images)
        raise RuntimeError("killed here")

    with pytest.raises(StageFailed, match=r"stage requests, part-00000: ended with RuntimeError: killed here"):
        _run(run, Stage("requests", 1, None, fails, images="sources"))
    assert not done_path(run, "requests", 0).exists()
    assert not rows_path(run, "requests", 0).exists()
    assert not list(run.rglob(".tmp-*"))
    _run(run, FIRST)
    done = read_done(run, "requests", 0)
    assert done is not None
    assert done.attempts == 2


def test_an_image_whose_bytes_changed_is_never_read(run: Path) -> None:
    _run(run, FIRST)
    path = run / "images" / "sources" / "part-00000.tar"
    data = bytearray(path.read_bytes())
    row = next(read_kept(run, "requests", 0))
    data[row.sources[0].offset + 40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedFile, match="other bytes"):
        _run(run, SECOND)
