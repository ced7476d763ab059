"""The first stage on bad input: each bad request is one reject with its reason, and the rest goes on."""

import io
import json
import os
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from pipeline.gates.measures import GateSettings
from pipeline.run.image_store import ImageTar
from pipeline.run.plan import PlannedLine
from pipeline.run.stage import PartImages
from pipeline.stages.requests import open_requests
from runtime.masks import mask_to_rle
from schemas.sample import Rejection, Sample
from tests.cases.pictures import png_header


def _photo(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def _line(**fields: Any) -> dict[str, Any]:
    return {"id": "good", "sources": ["good.png"], "instruction": "Make the cup red"} | fields


def _opened(folder: Path, *lines: dict[str, Any], size_px: int = 64) -> list[Sample | Rejection]:
    planned = [PlannedLine(place=f"r:{n}", root=str(folder), line=line) for n, line in enumerate(lines)]
    images = PartImages(folder, ImageTar(io.BytesIO(), "images/sources/part-00000.tar", "png"))
    return list(open_requests(planned, images, size_px=size_px, gates=GateSettings()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    _photo().save(inside / "good.png")
    _photo(seed=1).save(tmp_path / "outside.png")
    (inside / "zero.png").touch()
    (inside / "cut.png").write_bytes((inside / "good.png").read_bytes()[:5_000])
    _photo(900, 90).save(inside / "long.png")
    _photo(20, 20).save(inside / "small.png")
    Image.new("RGB", (100, 100), (9, 9, 9)).save(inside / "flat.png")
    os.symlink(tmp_path / "outside.png", inside / "link.png")
    return inside


BOX = {"label": "cup", "box": [0, 0, 121, 50]}
MASK = {"label": "cup", "mask": {"size": [9, 9], "counts": "a2"}}
BROUGHT = {"candidates": [{"path": "zero.png"}, {"path": "none.png"}]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (_line(sources=["zero.png"]), "empty_file"),
        (_line(sources=["cut.png"]), "unreadable"),
        (_line(sources=["none.png"]), "missing_file"),
        (_line(sources=["."]), "missing_file"),
        (_line(sources=["a\x00b"]), "bad_request"),
        (_line(sources=["x" * 900]), "missing_file"),
        (_line(sources=["../outside.png"]), "path_outside"),
        (_line(sources=["/etc/passwd"]), "path_outside"),
        (_line(sources=["link.png"]), "path_outside"),
        (_line(sources=["https://example.org/a.png"]), "remote_refused"),
        (_line(sources=["long.png"]), "aspect"),
        (_line(sources=["small.png"]), "size"),
        (_line(sources=["flat.png"]), "blank"),
        (_line(extra=1), "unknown_field"),
        (_line(schema="request-line/2"), "newer_schema"),
        (_line(schema="sample/1"), "wrong_schema"),
        (_line(targets=[BOX]), "box_outside_image"),
        (_line(targets=[{"label": "cup", "box": [9, 9, 9, 30]}]), "bad_box"),
        (_line(targets=[{"label": "cup", "box": [-9, 9, 20, 30]}]), "bad_box"),
        (
            _line(targets=[{"label": "cup", "box": [9, 9, 20, 30], "destination": [100, 9, 130, 30]}]),
            "box_outside_image",
        ),
        (_line(targets=[MASK]), "bad_mask"),
        (_line(targets=[{"label": "cup", "mask": {"size": [90, 120], "counts": "11"}}]), "bad_mask"),
        (_line(instruction=""), "bad_instruction"),
        (_line(instruction="x" * 100_000), "bad_instruction"),
        (_line(instruction="a\x07b"), "bad_instruction"),
        (_line(instruction=7), "bad_instruction"),
        (_line(sources=[]), "bad_request"),
        (_line(BROUGHT=1), "unknown_field"),
        (_line(**BROUGHT), "no_usable_candidate"),
        ({}, "bad_request"),
    ],
)
def test_a_bad_request_is_one_reject_and_the_rest_goes_on(folder: Path, line: dict[str, Any], reason: str) -> None:
    bad, good = _opened(folder, line, _line())
    assert isinstance(bad, Rejection)
    assert isinstance(good, Sample)
    assert (bad.reason, bad.stage) == (reason, "requests")
    assert bad.detail.isprintable()
    assert len(bad.detail) <= 500
    assert str(folder) not in bad.detail


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (
            {"id": "a", "sources": ["good.png"], "instrution": "x"},
            "instrution: Extra inputs are not permitted, did you",
        ),
        (_line(Targets=[]), "did you mean targets?"),
        (_line(targets=[{"lable": "cup"}]), "targets.0.lable: Extra inputs are not permitted, did you mean label?"),
        ({"Id": "a", "sources": ["good.png"], "instruction": "x"}, "did you mean id?"),
        (_line(wings=2), "wings: Extra inputs are not permitted"),
    ],
)
def test_a_misspelt_field_is_named_even_where_one_is_missing(folder: Path, line: dict[str, Any], detail: str) -> None:
    (bad,) = _opened(folder, line)
    assert isinstance(bad, Rejection)
    assert (bad.reason, detail in bad.detail) == ("unknown_field", True), bad.detail


@pytest.mark.parametrize(
    "path", ["bücher/schön.png", "bu\u0308cher/scho\u0308n.png", "bücher\\scho\u0308n.png", ".\\bücher\\schön.png"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_that_one_can_see_is_found(folder: Path, path: str, form: Literal["NFC", "NFD"]) -> None:
    there = folder / unicodedata.normalize(form, "bücher")
    there.mkdir()
    _photo().save(there / unicodedata.normalize(form, "schön.png"))
    (sample,) = _opened(folder, _line(sources=[path], candidates=[{"path": path}]))
    assert isinstance(sample, Sample), sample.detail
    assert len(sample.brought) == 1


@pytest.mark.parametrize("path", ["..\\outside.png", "none\\..\\..\\outside.png"])
def test_backslashes_do_not_leave_the_folder(folder: Path, path: str) -> None:
    (row,) = _opened(folder, _line(sources=[path]))
    assert isinstance(row, Rejection)
    assert row.reason in ("path_outside", "missing_file")


def test_a_name_with_a_backslash_is_itself_where_it_is_there(folder: Path) -> None:
    _photo(seed=5).save(folder / "a\\b.png")
    (folder / "a").mkdir()
    _photo(seed=6).save(folder / "a" / "b.png")
    first, second = _opened(folder, _line(sources=["a\\b.png"]), _line(id="b", sources=["a/b.png"]))
    assert first.key != second.key


def test_spaces_around_a_path_are_pointed_out(folder: Path) -> None:
    (row,) = _opened(folder, _line(sources=[" good.png"]))
    assert isinstance(row, Rejection)
    assert row.detail.endswith("no such file; there is one without the spaces around its name")


def test_too_many_pixels_together_are_refused_by_their_headers(folder: Path) -> None:
    """Ten of 7,900 x 7,900 px: 624 megapixels, whether they are sources or candidates."""
    (folder / "huge.png").write_bytes(png_header(7_900, 7_900))
    sources = _line(id="sources", kind="composition", sources=["huge.png"] * 10)
    brought = _line(id="brought", sources=["good.png"], candidates=[{"path": "huge.png"}] * 10)
    allowed = _line(id="allowed", kind="composition", sources=["good.png"] * 2, candidates=[{"path": "good.png"}] * 10)
    first, second, third = _opened(folder, sources, brought, allowed)
    for row, name in ((first, "sources"), (second, "brought")):
        assert isinstance(row, Rejection)
        assert (row.name, row.reason) == (name, "too_many_pixels")
        assert "have 624 megapixels together, at most 256 are read" in row.detail
    assert isinstance(third, Sample)


@pytest.mark.parametrize(("number", "reason"), [(4, "unreadable"), (5, "too_many_pixels")])
def test_four_of_the_largest_pictures_are_read(folder: Path, number: int, reason: str) -> None:
    (folder / "huge.png").write_bytes(png_header(8_000, 8_000))  # 64 megapixels; there are none to be read
    (row,) = _opened(folder, _line(kind="composition", sources=["huge.png"] * number))
    assert isinstance(row, Rejection)
    assert row.reason == reason


def test_sources_are_never_in_memory_together(folder: Path) -> None:
    """Of 2 and of 6 sources of 480 KB the same peak: the second is read when the first is scaled down and gone."""
    _photo(400, 400).save(folder / "large.png", compress_level=1)
    peaks = []
    for number in (2, 2, 6):
        tracemalloc.start()
        try:
            (row,) = _opened(folder, _line(kind="composition", sources=["large.png"] * number))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert isinstance(row, Sample)
    assert peaks[2] < peaks[1] + 240_000


def test_an_instruction_with_html_stays_as_it_is(folder: Path) -> None:
    text = "<script>alert('x')</script> & make it red"
    (sample,) = _opened(folder, _line(instruction=text))
    assert isinstance(sample, Sample)
    assert sample.request.instruction == text


def test_boxes_and_masks_are_scaled_with_the_image(folder: Path) -> None:
    mask = np.zeros((90, 120), dtype=np.bool_)
    mask[30:60, 60:90] = True
    target = {"label": "cup", "box": [60, 30, 90, 60], "mask": mask_to_rle(mask).model_dump(mode="json")}
    (sample,) = _opened(folder, _line(targets=[target]), size_px=60)
    assert isinstance(sample, Sample)
    source, scaled = sample.request.sources[0], sample.request.targets[0]
    assert (source.width_px, source.height_px) == (60, 45)
    assert scaled.box == (30, 15, 45, 30)
    assert scaled.mask is not None
    assert scaled.mask.size == (45, 60)


def test_candidates_brought_along_are_stored_and_bad_ones_are_rejects(folder: Path) -> None:
    _photo(240, 180, seed=3).save(folder / "edited.png")
    line = _line(candidates=[{"path": "edited.png", "editor": "mine", "seed": 4}, {"path": "cut.png"}])
    (sample,) = _opened(folder, line)
    assert isinstance(sample, Sample)
    assert [(fault.index, fault.reason) for fault in sample.brought_faults] == [(1, "unreadable")]
    assert (len(sample.brought), sample.request.candidates[0].editor) == (1, "mine")


def test_the_same_request_under_another_id_is_a_reject_whatever_lies_between(folder: Path) -> None:
    first, other, again = _opened(folder, _line(), _line(instruction="Make it blue"), _line(id="other"))
    assert isinstance(first, Sample)
    assert isinstance(other, Sample)
    assert isinstance(again, Rejection)
    assert (again.reason, "'good'" in again.detail) == ("duplicate_request", True)
    assert first.sources == other.sources


def test_ids_are_the_same_at_every_size(folder: Path) -> None:
    target = {"label": "cup", "box": [60, 30, 90, 60]}
    found = [_opened(folder, _line(targets=[target]), size_px=size)[0] for size in (64, 120)]
    assert len({row.key for row in found}) == 1
    assert len({row.source_fingerprint for row in found if isinstance(row, Sample)}) == 1


def test_a_scene_needs_no_file(tmp_path: Path) -> None:
    planned = [PlannedLine(place="scene 1/2", scene=(1, 2, 96, 0))]
    images = PartImages(tmp_path, ImageTar(io.BytesIO(), "images/sources/part-00000.tar", "png"))
    (sample,) = open_requests(planned, images, size_px=64, gates=GateSettings())
    assert isinstance(sample, Sample)
    assert sample.request.synthetic
    assert sample.request.sources[0].width_px == 64
    assert json.loads(sample.model_dump_json())["request"]["name"] == "scene-1-00002-0"
