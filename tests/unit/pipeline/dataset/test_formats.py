"""Every format of samples: registered, whole, the same bytes for the same sample, and no other sample passes for it."""

import importlib
import io
import json
import pkgutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.dataset import formats
from pipeline.dataset.formats import FORMATS, EncodedImage, SampleFormat, SampleImages
from pipeline.dataset.formats.webdataset import WebDatasetFormat, label_map
from runtime.images import (
    ImageU8,
    decode_labels_png,
    encode_image,
    encode_labels_png,
    encode_mask_png,
    pixels_sha256,
)
from runtime.masks import MaskBool, mask_box, mask_to_rle
from schemas.dataset_row import DatasetRegion, DatasetRow

KEY = "0123456789abcdef-0123456789abcdef"
BLACK = EncodedImage(encode_image(np.zeros((4, 6, 3), np.uint8), "png"), "png")
IMAGES = SampleImages((BLACK,), BLACK)
SCORES = ("background", "background_reward", "success", "overedit", "naturalness", "artifacts", "aesthetics")


@st.composite
def samples(draw: st.DrawFn) -> tuple[DatasetRow, SampleImages]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    drawn: list[ImageU8] = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(draw(st.integers(2, 4)))
    ]
    encoded = [EncodedImage(encode_image(image, "png"), "png") for image in drawn]
    regions = tuple(_random_region(f"{number:016x}", rng, height, width) for number in range(draw(st.integers(0, 3))))
    return _row(drawn, regions), SampleImages(tuple(encoded[:-1]), encoded[-1])


def _row(drawn: Sequence[ImageU8], regions: tuple[DatasetRegion, ...]) -> DatasetRow:
    """A row of sources and a candidate, the last of `drawn`."""
    height, width = drawn[-1].shape[:2]
    return DatasetRow(
        key=KEY,
        split="train",
        request=KEY[:16],
        request_name="cup-1",
        candidate=KEY[17:],
        candidate_index=0,
        kind="composition" if len(drawn) > 2 else "single",
        edit_type="recolour",
        instruction="Make the cup red",
        turns=(),
        targets=(),
        source_names=tuple(f"{number}.png" for number in range(len(drawn) - 1)),
        source_pixels_sha256=tuple(pixels_sha256(image) for image in drawn[:-1]),
        edited_pixels_sha256=pixels_sha256(drawn[-1]),
        width_px=width,
        height_px=height,
        editor="procedural",
        revision="1",
        seed=7,
        parameters={},
        edits=(),
        defects=(),
        regions=regions,
        **dict.fromkeys(SCORES),
        rater=None,
        measures=(),
        synthetic=False,
        synthetic_parts=(),
    )


def of_masks(masks: NDArray[np.bool_]) -> DatasetRow:
    """The row of `IMAGES` with a region for each of the masks (regions, 4, 6), or of another size."""
    black = np.zeros((*masks.shape[1:], 3), np.uint8)
    regions = tuple(_region(f"{number:016x}", mask) for number, mask in enumerate(masks))
    return _row([black, black], regions)


def _random_region(key: str, rng: np.random.Generator, height: int, width: int) -> DatasetRegion:
    mask = rng.random((height, width)) < 0.5
    mask[0, 0] = True  # an empty one looks like no region
    return _region(key, mask)


def _region(key: str, mask: MaskBool) -> DatasetRegion:
    return DatasetRegion(
        region=key,
        label="cup",
        role="change",
        status="changed",
        origin="difference",
        frame="edited",
        planned_box=None,
        box=mask_box(mask),
        area_px=int(mask.sum()),
        confidence=1.0,
        mask=mask_to_rle(mask),
        success=None,
        preserve=None,
        phi=None,
        reward=None,
    )


def test_every_module_of_a_format_is_registered() -> None:
    modules = {module.name for module in pkgutil.iter_modules(formats.__path__)} - {"protocol"}
    assert modules == set(FORMATS)
    for name, made in FORMATS.items():
        assert isinstance(made, SampleFormat)
        assert made.name == name
        assert type(made).__module__ == importlib.import_module(f"{formats.__name__}.{name}").__name__


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=50)
@given(sample=samples())
def test_a_sample_comes_back_as_it_was_and_is_the_same_bytes_again(
    name: str, sample: tuple[DatasetRow, SampleImages]
) -> None:
    row, images = sample
    members = FORMATS[name].members(row, images)
    assert FORMATS[name].fault(KEY, members, "train") is None
    assert FORMATS[name].row(KEY, members) == row
    assert list(FORMATS[name].members(row, images).items()) == list(members.items())


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=25)
@given(one=samples(), other=samples())
def test_no_member_of_another_sample_passes(
    name: str, one: tuple[DatasetRow, SampleImages], other: tuple[DatasetRow, SampleImages]
) -> None:
    members, others = (FORMATS[name].members(*sample) for sample in (one, other))
    assert FORMATS[name].fault(KEY, members, "test")
    assert FORMATS[name].fault("another-key", members, "train")
    for member in members:
        assert FORMATS[name].fault(KEY, {key: data for key, data in members.items() if key != member}, "train")
        if member in others and others[member] != members[member]:
            assert FORMATS[name].fault(KEY, members | {member: others[member]}, "train")


def test_a_label_map_has_the_size_of_the_image_and_shows_smaller_regions_over_larger() -> None:
    masks = np.zeros((3, 4, 6), np.bool_)
    masks[0, 1:3, 1:3] = masks[1] = masks[2, 2:, 2:] = True
    row = of_masks(masks)
    assert label_map(row).tolist() == [[2] * 6, [2, 1, 1, 2, 2, 2], [2, 1, 1, 3, 3, 3], [2, 2, 3, 3, 3, 3]]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 300])
def test_any_number_of_regions_comes_back_from_the_label_map(count: int) -> None:
    masks = np.zeros((count, 10, 30), np.bool_)
    for number in range(count):
        masks[number].flat[number] = True
    labels = label_map(of_masks(masks))
    assert labels.max() == count
    png = encode_labels_png(labels)
    assert np.array_equal(decode_labels_png(png), labels)
    with Image.open(io.BytesIO(png)) as image:  # as anybody reads it
        assert np.array_equal(np.asarray(image), labels)


def test_masks_of_another_size_than_the_row_are_a_fault() -> None:
    members = WebDatasetFormat().members(of_masks(np.ones((1, 4, 6), np.bool_)), IMAGES)
    row = json.loads(members["json"])
    row["regions"][0]["mask"] = mask_to_rle(np.ones((6, 4), np.bool_)).model_dump()
    fault = WebDatasetFormat().fault(KEY, members | {"json": json.dumps(row).encode()}, "train")
    assert fault == "region 1: mask.size is (6, 4), its row, mask and scores say (4, 6)"


def test_another_encoder_of_the_same_picture_is_no_damage() -> None:
    members = WebDatasetFormat().members(of_masks(np.eye(4, 6, dtype=np.bool_)[None]), IMAGES)
    with Image.open(io.BytesIO(members["regions.png"])) as image:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=0)
    assert buffer.getvalue() != members["regions.png"]
    assert WebDatasetFormat().fault(KEY, members | {"regions.png": buffer.getvalue()}, "train") is None


@pytest.mark.parametrize("encode", [lambda mask: encode_mask_png(mask), lambda mask: _greyscale(mask)])
def test_rows_of_the_first_version_are_read_and_checked(encode: Callable[[MaskBool], bytes]) -> None:
    masks = np.stack([np.eye(4, 6, dtype=np.bool_), np.ones((4, 6), np.bool_)])
    row = of_masks(masks)
    members = WebDatasetFormat().members(row, IMAGES)
    del members["regions.png"]
    document = json.loads(members["json"]) | {"schema": "dataset-row/1"}
    members |= {"masks.png": encode(masks.reshape(8, 6)), "json": json.dumps(document).encode()}
    assert WebDatasetFormat().fault(KEY, members, "train") is None
    assert WebDatasetFormat().row(KEY, members) == row
    members["masks.png"] = encode(masks[::-1].reshape(8, 6))
    assert WebDatasetFormat().fault(KEY, members, "train") == "masks.png does not show the masks of its row"


def _greyscale(mask: MaskBool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).convert("L").save(buffer, "PNG")
    return buffer.getvalue()
