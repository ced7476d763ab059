"""Label Studio's brush RLE: the SDK's numbers exactly, every mask back as it was, and hostile input as one line."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation.studio.brush_rle import brush_from_coco, coco_from_brush, decode_brush, encode_brush
from benchmarks.mask_cases import mask_case
from runtime.masks import MaskBool, mask_to_rle, rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import CocoRle
from tests.cases.examples import few_examples

MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))
#: Every shape several times, and one of the large masks.
ALL_SHAPES = 60


def _sdk(mask: MaskBool) -> list[int]:
    from label_studio_sdk.converter.brush import mask2rle

    return list(mask2rle(mask.astype(np.uint8) * 255))


def _sdk_mask(brush: list[int], mask: MaskBool) -> MaskBool:
    """What the SDK reads, in the shape of `mask`."""
    from label_studio_sdk.converter.brush import decode_rle

    return np.asarray(decode_rle(brush).reshape(*mask.shape, 4)[..., 3] > 0)


def _packed(values: list[tuple[int, int]]) -> list[int]:
    """(value, bits) pairs as bytes."""
    text = "".join(f"{value:0{bits}b}" for value, bits in values)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


def _header(n_values: int, value_bits: int = 8) -> list[tuple[int, int]]:
    return [(n_values, 32), (value_bits - 1, 5), (2, 4), (3, 4), (7, 4), (15, 4)]


def test_masks_of_all_shapes_have_the_sdks_numbers_and_come_back() -> None:
    for number in range(ALL_SHAPES):
        mask = mask_case(number)
        brush = encode_brush(mask)
        assert brush == _sdk(mask), number
        assert np.array_equal(decode_brush(brush, *mask.shape), mask), number
        assert np.array_equal(_sdk_mask(brush, mask), mask), number


@pytest.mark.parametrize("height", [255, 256, 257])
def test_runs_at_the_limits_of_the_code_have_the_sdks_numbers(height: int) -> None:
    for pixels in (1, 2, 3, 4, 5, 63, 64, 65, 16_383, 16_384, 16_385, 2 * 16_384, 2 * 16_384 + 1):
        mask = np.arange(height * 256).reshape(height, 256) < pixels
        assert encode_brush(mask) == _sdk(mask), pixels
        assert np.array_equal(decode_brush(encode_brush(mask), height, 256), mask)


@given(MASKS)
def test_from_coco_to_a_brush_and_back_nothing_changes(mask: MaskBool) -> None:
    coco = mask_to_rle(mask)
    brush = brush_from_coco(coco)
    assert brush == _sdk(mask)
    assert coco_from_brush(brush, *mask.shape) == coco
    assert np.array_equal(rle_to_mask(coco_from_brush(brush, *mask.shape)), mask)


@few_examples
@given(MASKS, st.data())
def test_single_values_and_other_run_sizes_are_read_as_the_sdk_reads_them(mask: MaskBool, data: st.DataObject) -> None:
    alpha = np.repeat(mask.ravel() * np.uint8(200), 4).tolist()
    sizes = data.draw(st.lists(st.integers(1, 16), min_size=4, max_size=4))
    codes = [(len(alpha), 32), (7, 5), *((size - 1, 4) for size in sizes)]
    at = 0
    while at < len(alpha):
        size = data.draw(st.integers(0, 3))
        length = data.draw(st.integers(1, min(2 ** sizes[size], len(alpha) - at, 30)))
        if len(set(alpha[at : at + length])) == 1 and data.draw(st.booleans()):
            codes += [(1, 1), (size, 2), (length - 1, sizes[size]), (alpha[at], 8)]
        else:
            codes += [(0, 1), (size, 2), (length - 1, sizes[size]), *((value, 8) for value in alpha[at : at + length])]
        at += length
    brush = _packed(codes)
    assert np.array_equal(decode_brush(brush, *mask.shape), mask)
    assert np.array_equal(_sdk_mask(brush, mask), mask)


@pytest.mark.parametrize(("alpha", "inside"), [(0, False), (127, False), (128, True), (255, True)])
def test_a_soft_edge_belongs_to_the_mask_from_half_on(alpha: int, inside: bool) -> None:
    brush = _packed([*_header(8), (1, 1), (0, 2), (7, 3), (alpha, 8)])
    assert decode_brush(brush, 1, 2).tolist() == [[inside, inside]]


WHOLE = np.eye(9, dtype=np.bool_)


@pytest.mark.parametrize(
    ("rle", "fault"),
    [
        (None, "no list of numbers"),
        ("AAEC", "no list of numbers"),
        (10**9, "no list of numbers"),
        ({"rle": [1]}, "no list of numbers"),
        ([], "ends inside its header"),
        (encode_brush(WHOLE)[:6], "ends inside its header"),
        (encode_brush(WHOLE)[:-9], "ends too early"),
        (encode_brush(WHOLE)[:8], "ends too early"),
        ([*encode_brush(WHOLE)[:-1], 256], "no number of 0..255"),
        ([*encode_brush(WHOLE)[:-1], -1], "no number of 0..255"),
        ([*encode_brush(WHOLE)[:-1], 1.5], "no number of 0..255"),
        ([*encode_brush(WHOLE)[:-1], "1"], "no number of 0..255"),
        ([*encode_brush(WHOLE)[:-1], None], "no number of 0..255"),
        ([*encode_brush(WHOLE)[:-1], [1]], "no number of 0..255"),
        (encode_brush(WHOLE[:8]), "holds 288 values, and an image of 9 x 9 px has four a pixel"),
        ([255] * 40, "holds 4294967295 values"),
        ([0] * 2_000, "more than its image can need"),
        (_packed([*_header(324, value_bits=16), (1, 1), (3, 2), (323, 16), (255, 16)]), "values of 16 bits"),
        (_packed([*_header(324), (1, 1), (3, 2), (324, 16), (255, 8)]), "run beyond its end"),
        (_packed([*_header(324), (0, 1), (3, 2), (323, 16), (255, 8)]), "ends too early"),
    ],
)
def test_what_is_no_mask_of_the_image_is_one_line(rle: object, fault: str) -> None:
    with pytest.raises(BadInput, match=fault) as caught:
        decode_brush(rle, 9, 9, "annotation 7, mask of region extra-0")
    assert str(caught.value).startswith("annotation 7, mask of region extra-0: ")
    assert "\n" not in str(caught.value)


@given(st.lists(st.integers(0, 255), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_no_bytes_do_anything_but_give_a_mask_or_one_line(noise: list[int], height: int, width: int) -> None:
    for rle in (noise, _packed(_header(height * width * 4))[:6] + noise):
        with suppress(BadInput):
            assert decode_brush(rle, height, width).shape == (height, width)


def test_a_size_without_pixels_or_of_too_many_is_refused_before_anything_is_laid_out() -> None:
    for height, width in ((0, 4), (4, -1), (65_535, 65_535)):
        with pytest.raises(BadInput, match="pixels are read"):
            decode_brush([0] * 8, height, width)
    with pytest.raises(BadInput, match="pixels are read"):
        brush_from_coco(CocoRle(size=(65_535, 65_535), counts="0"))
    with pytest.raises(BadInput, match="does not fill its size"):
        brush_from_coco(CocoRle(size=(9, 9), counts="1"))
