"""`verify`: what cannot have been written so, found in the folder alone or by the digest that the export printed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.export import export_dataset
from pipeline.dataset.shards import read_manifest
from pipeline.dataset.verify import verify
from pipeline.run.workers import workers
from runtime.locks import locked
from tests.cases.dataset_cases import forged, rewritten

Fields = dict[str, Any]


@pytest.fixture
def dataset(small_run: Path, tmp_path: Path) -> Path:
    """A copy that lies alone, as one has it that was downloaded."""
    return Path(shutil.copytree(small_run / "dataset", tmp_path / "downloaded"))


def found(dataset: Path, **settings: Any) -> list[tuple[str, str]]:
    return [(fault.shard, fault.fault) for fault in verify(dataset, **settings)[1]]


def edit(dataset: Path, change: Callable[[Fields], object]) -> None:
    path = dataset / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


EDITS: dict[str, Callable[[Fields], object]] = {
    "rows": lambda manifest: manifest.update(rows=1),
    "requests": lambda manifest: manifest.update(requests=1),
    "splits": lambda manifest: manifest["splits"].update(train=1, test=99),
    "edit_types": lambda manifest: manifest["edit_types"].update(recolour=99),
    "raters": lambda manifest: manifest.update(raters={"people": 9}),
    "unscored": lambda manifest: manifest.update(unscored=9),
    "synthetic": lambda manifest: manifest.update(synthetic="none"),
    "export": lambda manifest: manifest["stages"][-1].update(kept=9),
    "config_digest": lambda manifest: manifest["build"]["config"].update(k=9),
    "synthetic,": lambda manifest: manifest["shards"][0].update(synthetic=0),
    " raters,": lambda manifest: manifest["shards"][0].update(raters={"people": 1}),
    " members,": lambda manifest: manifest["shards"][0].update(members=["json"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_count_that_was_edited_is_found_even_where_the_digest_was_made_to_fit(dataset: Path, name: str) -> None:
    edit(dataset, EDITS[name])
    assert ("manifest.json", "is not as it was written (its digest differs)") in found(dataset)
    digest = forged(dataset)
    faults = found(dataset, expect=digest)
    assert any(name in fault for _, fault in faults), faults


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(scores="consensus:best"),
        lambda manifest: manifest["stages"][0].update(rejected={"size": 9}),
        lambda manifest: manifest.update(created_at="yesterday"),
    ],
)
def test_what_no_row_says_is_found_by_the_digest(dataset: Path, change: Callable[[Fields], object]) -> None:
    printed = read_manifest(dataset).digest
    edit(dataset, change)
    assert found(dataset) == [("manifest.json", "is not as it was written (its digest differs)")]
    other = forged(dataset)
    assert found(dataset) == []
    assert found(dataset, expect=printed) == [("manifest.json", f"has the digest {other}, expected {printed}")]


def test_a_card_that_is_gone_or_edited_is_found(dataset: Path) -> None:
    card = dataset / "README.md"
    card.write_text(card.read_text().replace("synthetic", "real"))
    assert found(dataset) == [("README.md", "is not the card that was written (sha256 differs)")]
    card.unlink()
    assert found(dataset) == [("README.md", "is missing")]


def test_what_the_manifest_does_not_know_is_named_wherever_it_lies(dataset: Path) -> None:
    tar = dataset / read_manifest(dataset).shards[0].name
    (dataset / "more").mkdir()
    shutil.copy(tar, dataset / "more")
    (dataset / ".gitattributes").write_text("*.tar filter=lfs")
    assert found(dataset) == [(f"more/{tar.name}", "is not in the manifest")]


def test_a_tar_that_is_a_link_is_none(dataset: Path, tmp_path: Path) -> None:
    tar = dataset / read_manifest(dataset).shards[0].name
    tar.rename(tmp_path / "elsewhere.tar")
    tar.symlink_to(tmp_path / "elsewhere.tar")
    assert found(dataset) == [(tar.name, "is a link")]


def without_shard(number: int) -> Callable[[Fields], None]:
    """Takes a shard's entry out and makes the sums fit."""

    def change(manifest: Fields) -> None:
        gone = manifest["shards"].pop(number)
        manifest["rows"] -= gone["samples"]
        manifest["requests"] -= gone["requests"]
        manifest["splits"][gone["split"]] -= gone["samples"]
        manifest["stages"][-1]["kept"] -= gone["samples"]
        for name in ("edit_types", "raters"):
            for key, count in gone[name].items():
                manifest[name][key] -= count
            manifest[name] = {key: count for key, count in manifest[name].items() if count}

    return change


def test_a_shard_that_is_gone_with_its_entry_is_found_by_its_number_or_by_the_digest(dataset: Path) -> None:
    printed = read_manifest(dataset).digest
    train = [shard.name for shard in read_manifest(dataset).shards if shard.split == "train"]
    assert len(train) > 1
    number = [shard.name for shard in read_manifest(dataset).shards].index(train[0])
    (dataset / train[0]).unlink()
    digest = forged(dataset, without_shard(number))
    lacks = f"lacks a shard of train: it has {', '.join(train[1:])}"
    assert found(dataset, expect=digest) == [("manifest.json", lacks)]
    assert any("expected" in fault for _, fault in found(dataset, expect=printed))


def test_a_dataset_without_any_shard_is_damaged(dataset: Path) -> None:
    names = [shard.name for shard in read_manifest(dataset).shards]
    for name in names:
        (dataset / name).unlink()
    change = without_shard(0)
    digest = forged(dataset, lambda manifest: [change(manifest) for _ in names])
    assert ("manifest.json", "names no shards") in found(dataset, expect=digest)


ROWS: dict[str, Callable[[Fields], object]] = {
    "reward": lambda row: row["regions"][0].update(reward=0.123),
    "phi": lambda row: row["regions"][0].update(phi=25.0),
    "area_px": lambda row: row["regions"][0].update(area_px=1),
    "box": lambda row: row["regions"][0].update(box=[0, 0, 1, 1]),
    "aesthetics": lambda row: row.update(aesthetics=25.0),
    "background_reward": lambda row: row.update(background_reward=0.5),
    "synthetic": lambda row: row.update(synthetic=False),
    "key": lambda row: row.update(request="0" * 16),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_contradicts_itself_is_found_though_hashes_fit(dataset: Path, tmp_path: Path, name: str) -> None:
    out = rewritten(dataset, tmp_path / "rewritten", ROWS[name])
    shutil.copy(dataset / "README.md", out)
    faults = found(out, expect=forged(out))
    assert any(f"{name} is " in fault for _, fault in faults), faults


def test_a_dataset_in_its_run_is_compared_with_what_the_export_kept(small_run: Path) -> None:
    dataset = small_run / "dataset"
    assert found(dataset) == []
    edit(dataset, lambda manifest: manifest.update(created_at="yesterday"))
    forged(dataset)
    (fault,) = found(dataset)
    assert "expected" in fault[1]


def test_an_export_that_fails_leaves_the_dataset_before_it(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_manifest(small_run / "dataset")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, locked(small_run), workers(1) as executor:
        patch.setattr("pipeline.dataset.export.write_card", full)
        with pytest.raises(OSError, match="No space"):
            export_dataset(small_run, executor, "oracle")
    assert verify(small_run / "dataset") == (before, [])
    with locked(small_run), workers(1) as executor:
        after = export_dataset(small_run, executor, "oracle")
    assert after.scores == "oracle"
    assert verify(small_run / "dataset") == (after, [])
    assert not list(small_run.glob(".dataset-*"))


def test_tars_that_stay_as_they_were_are_not_written_again(small_run: Path) -> None:
    files = {path.name: path.stat().st_ino for path in (small_run / "dataset").glob("*.tar")}
    with locked(small_run), workers(1) as executor:
        export_dataset(small_run, executor)
    assert {path.name: path.stat().st_ino for path in (small_run / "dataset").glob("*.tar")} == files
