"""Every format of samples: registered, whole, the same bytes for the same sample, and no other sample passes for it."""

import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import formats
from pipeline.dataset.formats import FORMATS, EncodedImage, SampleFormat, SampleImages
from runtime.images import ImageU8, encode_image, pixels_sha256
from runtime.masks import mask_box, mask_to_rle
from schemas.dataset_row import DatasetRegion, DatasetRow

KEY = "0123456789abcdef-0123456789abcdef"
SCORES = ("background", "background_reward", "success", "overedit", "naturalness", "artifacts", "aesthetics")


@st.composite
def samples(draw: st.DrawFn) -> tuple[DatasetRow, SampleImages]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    drawn: list[ImageU8] = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(draw(st.integers(2, 4)))
    ]
    encoded = [EncodedImage(encode_image(image, "png"), "png") for image in drawn]
    regions = tuple(_region(f"{number:016x}", rng, height, width) for number in range(draw(st.integers(0, 3))))
    row = DatasetRow(
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
    return row, SampleImages(tuple(encoded[:-1]), encoded[-1])


def _region(key: str, rng: np.random.Generator, height: int, width: int) -> DatasetRegion:
    mask = rng.random((height, width)) < 0.5
    mask[0, 0] = True  # an empty one looks like no region
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
