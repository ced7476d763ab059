"""The dataset: read back by plain webdataset, the same bytes every time, and no damage goes unseen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset as wds
from pycocotools import mask as coco_mask

from pipeline.build import run_parts
from pipeline.dataset.export import export_dataset
from pipeline.dataset.shards import ReadPosition, read_dataset, read_manifest
from pipeline.dataset.verify import verify
from pipeline.prepare import prepare_run
from pipeline.run.folder import read_kept
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, DamagedFile
from schemas.score import region_reward
from tests.cases.builds import SMALL, build
from tests.cases.dataset_cases import forged


def _hashes(dataset: Path) -> dict[str, str]:
    return {shard.name: shard.sha256 for shard in read_manifest(dataset).shards}


def test_a_built_dataset_verifies(built_run: Path) -> None:
    manifest, faults = verify(built_run / "dataset")
    assert faults == []
    assert manifest.rows == sum(shard.samples for shard in manifest.shards) > 15
    assert manifest.synthetic == "all"
    assert manifest.raters == {"oracle:construction": manifest.rows}
    by_stage = {stage.stage: stage for stage in manifest.stages}
    assert by_stage["candidates"].kept + sum(by_stage["candidates"].rejected.values()) == 30


def test_the_same_build_gives_the_same_bytes(built_run: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", SMALL)
    assert _hashes(tmp_path / "again" / "dataset") == _hashes(built_run / "dataset")


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    """Of one scene with one edit: if so little differs, so does more."""
    hashes = []
    for seed in (3, 4):
        run = tmp_path / str(seed)
        build(run, SMALL.model_copy(update={"seed": seed, "scenes": 1, "k": 1}))
        hashes.append(sorted(_hashes(run / "dataset").values()))
    assert hashes[0] != hashes[1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files to the GC
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools under numpy 2
def test_plain_webdataset_reads_images_masks_and_scores(built_run: Path) -> None:
    count = 0
    for shard in read_manifest(built_run / "dataset").shards:
        for sample in wds.WebDataset(str(built_run / "dataset" / shard.name), shardshuffle=False).decode("rgb8"):
            row = sample["json"]
            count += 1
            assert sample["source.png"].shape == sample["edited.png"].shape == (row["height_px"], row["width_px"], 3)
            assert sample["regions.png"].shape == sample["edited.png"].shape
            for region in row["regions"]:
                assert coco_mask.decode(region["mask"]).sum() == region["area_px"]
    assert count == read_manifest(built_run / "dataset").rows


def test_rows_carry_the_scores_of_the_oracle(built_run: Path) -> None:
    samples = {row.key: row for part in range(3) for row in read_kept(built_run, "gates", part)}
    for split in ("train", "validation", "test"):
        for _, row, _ in read_dataset(built_run / "dataset", split):
            oracle = samples[row.key].scores[0]
            assert row.background == oracle.background
            for region, planned in zip(row.regions, samples[row.key].planned, strict=False):
                score = next(score for score in oracle.regions if score.region == planned.id)
                assert (region.region, region.success, region.preserve) == (planned.id, score.success, score.preserve)
                assert region.reward == region_reward(region.phi, row.aesthetics)


def test_no_source_is_in_two_splits(built_run: Path) -> None:
    homes: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        for _, row, _ in read_dataset(built_run / "dataset", split):
            for source in row.source_pixels_sha256:
                homes.setdefault(source, set()).add(split)
    assert len({split for splits in homes.values() for split in splits}) > 1
    assert all(len(splits) == 1 for splits in homes.values())


def test_a_reader_goes_on_from_a_position_and_ranks_share_the_shards(built_run: Path) -> None:
    dataset = built_run / "dataset"
    everything = [(position, row.key) for position, row, _ in read_dataset(dataset, "train")]
    assert len(everything) > 4
    for position, key in everything[:-1]:
        rest = [row.key for _, row, _ in read_dataset(dataset, "train", position)]
        assert rest == [k for _, k in everything][[k for _, k in everything].index(key) + 1 :]
    ranks = [[row.key for _, row, _ in read_dataset(dataset, "train", rank=rank, world_size=2)] for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == sorted(key for _, key in everything)
    assert list(read_dataset(dataset, "train", ReadPosition(99, 0))) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1024])


def _cut_to_a_whole_sample(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:0] + b"\0" * 1024)


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 512)


def _zero_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))


@pytest.mark.parametrize("damage", [_flip, _cut, _cut_to_a_whole_sample, _grow, _zero_the_end, Path.unlink])
def test_no_damage_goes_unseen_and_repair_brings_the_bytes_back(
    small_run: Path, damage: Callable[[Path], None]
) -> None:
    dataset = small_run / "dataset"
    before = _hashes(dataset)
    name = sorted(before)[0]
    damage(dataset / name)
    for quick in (True, False):
        assert [fault.shard for fault in verify(dataset, quick=quick)[1]] == [name]
    with locked(small_run), workers(1) as executor:
        export_dataset(small_run, executor)
    assert verify(dataset)[1] == []
    assert _hashes(dataset) == before


def test_a_tar_that_the_manifest_does_not_know_is_named(small_run: Path) -> None:
    dataset = small_run / "dataset"
    (dataset / "train-00099.tar").write_bytes(b"\0" * 10_240)
    assert [(fault.shard, fault.fault) for fault in verify(dataset)[1]] == [
        ("train-00099.tar", "is not in the manifest")
    ]


def test_a_manifest_made_to_fit_a_damaged_tar_does_not_hide_the_sample(small_run: Path) -> None:
    dataset = small_run / "dataset"
    tar = dataset / sorted(_hashes(dataset))[0]
    data = bytearray(tar.read_bytes())
    data[data.index(b"\x89PNG") + 200] ^= 1
    tar.write_bytes(bytes(data))
    digest = forged(dataset)
    assert [fault.shard for fault in verify(dataset, expect=digest)[1]] == [tar.name]
    assert verify(dataset, quick=True, expect=digest)[1] == []
    assert [fault.shard for fault in verify(dataset, quick=True)[1]] == ["manifest.json"]


def test_a_reader_refuses_a_cut_tar(small_run: Path) -> None:
    dataset = small_run / "dataset"
    _cut(dataset / next(name for name in _hashes(dataset) if name.startswith("train")))
    with pytest.raises(DamagedFile, match="manifest"):
        list(read_dataset(dataset, "train"))


@pytest.mark.parametrize("text", [None, "", "{}", '{"schema": "manifest/9"}', "[]"])
def test_without_a_manifest_there_is_no_dataset(small_run: Path, text: str | None) -> None:
    path = small_run / "dataset" / "manifest.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput):
        verify(small_run / "dataset")


def test_a_manifest_cannot_point_out_of_its_folder(small_run: Path) -> None:
    path = small_run / "dataset" / "manifest.json"
    path.write_text(path.read_text().replace('"name": "train-00000.tar"', '"name": "../train-00000.tar"'))
    with pytest.raises(BadInput):
        verify(small_run / "dataset")


def test_an_export_before_the_stages_are_done_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), workers(1) as executor:
        prepare_run(tmp_path, SMALL)
        with pytest.raises(BadInput, match="not through the gates"):
            export_dataset(tmp_path, executor)


def test_images_damaged_under_a_finished_run_are_made_anew(small_run: Path) -> None:
    before = _hashes(small_run / "dataset")
    _flip(small_run / "images" / "candidates" / "part-00001.tar")
    for path in (small_run / "dataset").glob("*.tar"):
        path.unlink()
    with locked(small_run), workers(1) as executor:
        run_parts(small_run, prepare_run(small_run, SMALL).n_parts, executor)
        export_dataset(small_run, executor)
    assert _hashes(small_run / "dataset") == before


def test_a_row_from_a_tar_is_checked(built_run: Path) -> None:
    _, row, members = next(iter(read_dataset(built_run / "dataset", "train")))
    fields = json.loads(members["json"])
    assert DatasetRow.from_document(fields, thing="row") == row
    with pytest.raises(BadInput, match="success"):
        DatasetRow.from_document(fields | {"success": 26}, thing="row")


def test_a_tar_with_other_bytes_of_the_same_size_is_not_read(small_run: Path) -> None:
    tar = small_run / "dataset" / "train-00000.tar"
    data = bytearray(tar.read_bytes())
    data[700:764] = bytes(64)
    tar.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"train-00000.tar: is not as the manifest says"):
        list(read_dataset(small_run / "dataset", "train"))
