"""`verify`: what cannot have been written so, found in the folder alone or by the digest that the export printed."""

import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from pipeline.dataset.export import export_dataset, others_in
from pipeline.dataset.formats.webdataset import WebDatasetFormat, _pixels_of_file
from pipeline.dataset.shards import read_dataset, read_manifest, read_samples
from pipeline.dataset.verify import _Seen, verify
from pipeline.run.workers import workers
from runtime.files import add_to_tar
from runtime.images import decode_image
from runtime.locks import locked
from runtime.masks import rle_to_mask
from schemas.errors import BadInput
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


CONTRADICTIONS: dict[str, Callable[[Fields], object]] = {
    "two of its regions have one id": lambda row: row["regions"].append(row["regions"][0]),
    "nobody scored it, and background is there": lambda row: row.update(rater=None),
    "regions.0.area_px is not of the type": lambda row: row["regions"][0].update(
        area_px=str(row["regions"][0]["area_px"])
    ),
    "synthetic is not of the type": lambda row: row.update(synthetic=1),
}


@pytest.mark.parametrize("fault", CONTRADICTIONS)
def test_regions_of_one_id_scores_of_nobody_and_other_types_are_found(
    dataset: Path, tmp_path: Path, fault: str
) -> None:
    out = rewritten(dataset, tmp_path / "rewritten", CONTRADICTIONS[fault])
    shutil.copy(dataset / "README.md", out)
    assert any(fault in said for _, said in found(out, expect=forged(out)))


def with_members(dataset: Path, change: Callable[[str, bytes], list[bytes]]) -> str:
    """Writes the first tar with each member once for each of what `change` makes of it; its name. Digests fit."""
    path = dataset / read_manifest(dataset).shards[0].name
    samples = list(read_samples(path))
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for extension, data in members.items():
                for made in change(extension, data):
                    add_to_tar(tar, f"{key}.{extension}", made)
    forged(dataset)
    return path.name


def test_a_member_that_is_there_twice_is_found(dataset: Path) -> None:
    name = with_members(dataset, lambda extension, data: [data] * (2 if extension == "edited.png" else 1))
    ((shard, fault),) = found(dataset)
    assert shard == name
    assert fault.endswith(".edited.png twice")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


OTHER_FORMS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG with 1 images of mode RGBA": lambda image: _saved(image.convert("RGBA"), "PNG"),
    "WEBP with 1 images of mode RGB": lambda image: _saved(image, "WEBP", lossless=True),
    "PNG with 2 images of mode RGB": lambda image: _saved(
        image, "PNG", save_all=True, append_images=[ImageOps.invert(image)]
    ),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_an_image_of_the_same_pixels_that_is_not_plain_rgb_in_its_format_is_found(dataset: Path, form: str) -> None:
    def change(extension: str, data: bytes) -> list[bytes]:
        return [OTHER_FORMS[form](Image.open(io.BytesIO(data))) if extension == "edited.png" else data]

    with_members(dataset, change)
    ((_, fault),) = found(dataset)
    assert fault.endswith(f"is {form}, expected PNG with 1 of mode RGB")


def test_a_picture_that_another_encoder_wrote_is_whole(dataset: Path) -> None:
    def change(extension: str, data: bytes) -> list[bytes]:
        return [_saved(Image.open(io.BytesIO(data)), "PNG", compress_level=9) if "png" in extension else data]

    with_members(dataset, change)
    assert found(dataset) == []


def test_a_manifest_that_says_it_is_older_does_not_escape_the_digest(dataset: Path) -> None:
    printed = read_manifest(dataset).digest
    edit(dataset, lambda manifest: (manifest.pop("digest"), manifest.update(schema="manifest/1", scores="people")))
    assert found(dataset) == []
    assert found(dataset, expect=printed) == [("manifest.json", f"has no digest, expected {printed}")]


@pytest.mark.parametrize("text", ['{"rows": 99,', '{"digest": "0",'])
def test_a_manifest_that_names_a_field_twice_is_refused(dataset: Path, text: str) -> None:
    path = dataset / "manifest.json"
    path.write_text(text + path.read_text()[1:])
    with pytest.raises(BadInput, match=r"names the field '(rows|digest)' twice"):
        verify(dataset)


def test_a_manifest_in_another_encoding_is_refused(dataset: Path) -> None:
    path = dataset / "manifest.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(BadInput, match="is not JSON"):
        verify(dataset)


def test_settings_as_deep_as_no_build_has_them_are_a_fault(dataset: Path) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    edit(dataset, lambda manifest: manifest["build"]["config"].update(k=deep))
    assert ("manifest.json", "has settings that no build can have") in found(dataset)


def test_a_manifest_that_does_not_name_the_members_of_a_tar_is_found(dataset: Path) -> None:
    digest = forged(dataset, lambda manifest: manifest["shards"][0].update(members=[]))
    name = read_manifest(dataset).shards[0].name
    assert found(dataset, expect=digest) == [("manifest.json", f"does not name the members of {name}")]


@pytest.mark.parametrize("requests", [None, 1.5, [None, 2], "\ud800", {"x": 1}, float("nan")])
def test_settings_that_no_build_has_are_a_fault(dataset: Path, requests: object) -> None:
    edit(dataset, lambda manifest: manifest["build"]["config"].update(requests=requests))
    faults = found(dataset)
    assert faults
    assert {shard for shard, _ in faults} == {"manifest.json"}


def test_a_manifest_that_keeps_no_hash_of_its_card_is_found(dataset: Path) -> None:
    digest = forged(dataset, lambda manifest: manifest.update(card_sha256=None))
    assert found(dataset, expect=digest) == [("manifest.json", "has no sha256 of its card")]


def test_a_number_as_text_is_found_in_a_manifest(dataset: Path) -> None:
    digest = forged(dataset, lambda manifest: manifest.update(rows=str(manifest["rows"])))
    assert found(dataset, expect=digest) == [("manifest.json", "rows is not of the type that it should have")]


def test_rows_are_parsed_once_and_masks_and_pictures_decoded_once(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for split in ("train", "validation", "test") for _, row, _ in read_dataset(dataset, split)]
    calls = Counter[str]()

    def counted(name: str, function: Callable[..., Any]) -> None:
        def call(*arguments: Any) -> Any:
            calls[name.rpartition(".")[2]] += 1
            return function(*arguments)

        monkeypatch.setattr(name, call)

    _pixels_of_file.cache_clear()
    counted("pipeline.dataset.formats.webdataset.WebDatasetFormat.row", WebDatasetFormat.row)
    counted("pipeline.dataset.formats.webdataset.rle_to_mask", rle_to_mask)
    counted("pipeline.dataset.formats.webdataset.decode_image", decode_image)
    assert found(dataset) == []
    masks = {(row.key, region.mask) for row in rows for region in row.regions}
    sources = len({row.request for row in rows})
    assert calls == {"row": len(rows), "rle_to_mask": len(masks), "decode_image": len(rows) + sources}


def test_a_folder_that_is_empty_is_named(dataset: Path) -> None:
    (dataset / "old").mkdir()
    assert found(dataset) == [("old", "is an empty folder that is not in the manifest")]


def export_later(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export some years after the last."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls(2040, 1, 1, tzinfo=tz)

    with monkeypatch.context() as patch, locked(run), workers(1) as executor:
        patch.setattr("pipeline.dataset.export.datetime", Later)
        export_dataset(run, executor)


def contents(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.iterdir()}


def test_what_is_made_anew_later_has_the_same_bytes_and_digest(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(small_run / "dataset")
    shutil.rmtree(small_run / "dataset")
    export_later(small_run, monkeypatch)
    assert contents(small_run / "dataset") == before


def test_other_contents_have_a_time_of_their_own(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_run / "export" / "scores").write_text("oracle")
    export_later(small_run, monkeypatch)
    assert read_manifest(small_run / "dataset").created_at.startswith("2040")


def test_what_others_put_into_the_folder_stays_there(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_run / "dataset"
    before = contents(dataset)
    (dataset / ".git").mkdir()
    (dataset / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (dataset / "notes.txt").write_text("mine")
    (dataset / "manifest.json").unlink()
    export_later(small_run, monkeypatch)
    assert (dataset / ".git" / "HEAD").read_text() == "ref: refs/heads/main"
    assert found(dataset) == [("notes.txt", "is not in the manifest")]
    assert [path.name for path in others_in(dataset)] == [".git", "notes.txt"]
    shutil.rmtree(dataset / ".git")
    (dataset / "notes.txt").unlink()
    assert contents(dataset) == before


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_whatever_lies_where_the_dataset_should_an_export_takes_its_place(
    small_run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small_run / "dataset"
    before = contents(dataset)
    dataset.rename(tmp_path / "elsewhere")
    if kind == "file":
        dataset.write_text("x")
    else:
        dataset.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    export_later(small_run, monkeypatch)
    assert not dataset.is_symlink()
    assert contents(dataset) == contents(tmp_path / "elsewhere") == before


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


def test_a_request_in_two_tars_and_a_source_in_two_splits_are_found(dataset: Path) -> None:
    shard = read_manifest(dataset).shards[0]
    row = next(row for _, row, _ in read_dataset(dataset, shard.split))
    seen, other = _Seen(), shard.model_copy(update={"name": "test-00000.tar", "split": "test"})
    assert seen.fault(row, shard) is None
    assert "which is in" in (seen.fault(row, shard) or "")
    again = row.model_copy(update={"key": "another"})
    assert "its request is in" in (seen.fault(again, other) or "")
    of_its_source = again.model_copy(update={"key": "one more", "request": "0" * 16})
    assert f"its source is in split {shard.split} too" in (seen.fault(of_its_source, other) or "")
