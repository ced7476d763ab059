"""The difference segmenter: what is no edit stays out, what is one comes in, to the pixel where that can be asked."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from pipeline.regions.difference import DifferenceSegmenter, DifferenceSettings, compare
from pipeline.regions.framing import frame
from pipeline.regions.registration import _gains, fit_colours
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, box_mask
from runtime.masks import MaskBool
from tests.cases.examples import few_examples

SIDE = 192
BOX = (60, 70, 130, 120)
EDIT = box_mask(BOX, SIDE, SIDE)
segmenter = DifferenceSegmenter()


def photograph(name: str) -> ImageU8:
    image = Image.fromarray(getattr(data, name)()).convert("RGB")
    side = min(image.size)
    return np.array(image.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module", params=["astronaut", "coffee", "coins", "scene 3", "scene 4"])
def source(request: pytest.FixtureRequest) -> ImageU8:
    if request.param.startswith("scene"):
        return render_scene(5, int(request.param[-1]), SIDE).image_hwc_u8
    return photograph(request.param)


def jpeg(image: ImageU8, quality: int = 85) -> ImageU8:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer).convert("RGB"))


def moved(image, x_px: float, y_px: float):
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], dtype=np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def drifted(image: ImageU8, gains: tuple[float, float, float], offset: float) -> ImageU8:
    return np.clip(image * np.array(gains) + offset + 0.5, 0, 255).astype(np.uint8)


def recoloured(image: ImageU8) -> ImageU8:
    """The box in another colour, its shading kept."""
    edited = image.copy()
    shade = edited[EDIT].mean(axis=1, keepdims=True) / 255
    hue = (0.2, 0.5, 1.0) if edited[EDIT][:, 0].mean() > edited[EDIT][:, 2].mean() else (1.0, 0.5, 0.1)
    edited[EDIT] = np.clip((0.3 + 0.7 * shade) * 255 * np.array(hue), 0, 255)
    return edited


def iou(found: MaskBool, truth: MaskBool) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def seen(source: ImageU8, edited: ImageU8) -> MaskBool:
    """What changed in an edited image that is brought into the source's frame first."""
    framed = frame(source, edited)
    return segmenter.changed(source, framed.image, framed.unseen)


def test_identical_images_show_no_change(source: ImageU8) -> None:
    assert not segmenter.changed(source, source.copy()).any()


def test_compression_alone_is_no_change(source: ImageU8) -> None:
    assert segmenter.changed(source, jpeg(source)).mean() < 0.001


@pytest.mark.parametrize(("x_px", "y_px"), [(1, 0), (-2, 1), (0.5, -0.5), (3, 3), (-1.3, 2.6)])
def test_a_small_shift_alone_is_no_change(source: ImageU8, x_px: float, y_px: float) -> None:
    assert seen(source, moved(source, x_px, y_px)).mean() < 0.001


@pytest.mark.parametrize(
    ("gains", "offset"), [((1.1, 1.1, 1.1), 5), ((0.8, 0.8, 0.8), 10), ((1.08, 1, 0.92), 0), ((1, 1, 1), -12)]
)
def test_global_drift_alone_is_no_change(source: ImageU8, gains: tuple[float, float, float], offset: float) -> None:
    assert segmenter.changed(source, drifted(source, gains, offset)).mean() < 0.001


def test_a_slight_blur_of_everything_is_no_change(source: ImageU8) -> None:
    assert segmenter.changed(source, cv2.GaussianBlur(source, (0, 0), 0.7)).mean() < 0.005


def test_a_recoloured_region_is_found(source: ImageU8) -> None:
    found = segmenter.changed(source, recoloured(source))
    around = cv2.dilate(EDIT.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert found[EDIT].mean() > 0.97
    assert not found[~around].any()


def test_a_recoloured_region_is_found_under_drift_shift_and_compression(source: ImageU8) -> None:
    edited = jpeg(moved(drifted(recoloured(source), (1.06, 1.0, 0.95), 4), 1, -1))
    assert iou(seen(source, edited), EDIT) > 0.9


def test_what_a_shift_brings_in_at_the_border_is_no_change(source: ImageU8) -> None:
    assert not seen(source, np.roll(source, 2, axis=1)).any()
    assert not seen(source, np.roll(source, -1, axis=0)).any()
    drifting = drifted(np.roll(source, 2, axis=1), (1.06, 1.0, 0.95), 5)
    assert not seen(source, drifting).any()


def test_texture_and_blur_are_seen_where_the_mean_colour_stays() -> None:
    image = photograph("coffee")
    ys, xs = np.nonzero(EDIT)
    striped = image.astype(np.float64)
    striped[ys, xs] += np.where((xs // 4) % 2 == 0, 30, -30)[:, None]
    assert iou(segmenter.changed(image, np.clip(striped, 0, 255).astype(np.uint8)), EDIT) > 0.85
    grained = np.clip(image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    blurred = np.where(EDIT[..., None], cv2.GaussianBlur(grained, (0, 0), 3), grained)
    assert iou(segmenter.changed(grained, blurred), EDIT) > 0.85


def test_a_fine_faint_grain_is_seen_by_its_contrast_alone() -> None:
    """A chequer of single pixels, 18 levels up and down: too faint a difference a pixel, and no mean."""
    image = np.full((SIDE, SIDE, 3), 120, np.uint8) + (np.arange(SIDE) // 48 * 12).astype(np.uint8)[:, None]
    ys, xs = np.nonzero(EDIT)
    grained = image.astype(np.int16)
    grained[ys, xs] += np.where((xs + ys) % 2 == 0, 18, -18)[:, None].astype(np.int16)
    assert iou(segmenter.changed(image, grained.astype(np.uint8)), EDIT) > 0.85


def test_the_colour_fit_finds_a_drift_under_an_edit(source: ImageU8) -> None:
    gains, offset = (0.9, 1.0, 1.08), 6.0
    found = fit_colours(source.astype(np.float32), drifted(recoloured(source), gains, offset).astype(np.float32))
    seen = source[~EDIT].reshape(-1, 3) @ found[:, :3].T + found[:, 3]
    wanted = source[~EDIT] * np.array(gains) + offset
    assert np.abs(np.median(seen - wanted, axis=0)).max() < 0.7
    assert np.quantile(np.abs(seen - wanted), 0.9) < 2.0


def test_the_gains_alone_are_exact_where_gains_were_put_in() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(20, 200, (4000, 3))
    matrix, offset = _gains(x, x * np.array([0.9, 1.0, 1.1]) + np.array([5.0, 0.0, -4.0]), np.full(4000, 1 / 4000))
    assert np.allclose(np.diag(matrix), (0.9, 1.0, 1.1), atol=1e-3)
    assert np.allclose(offset, (5, 0, -4), atol=0.2)


def test_another_image_is_change_nearly_everywhere() -> None:
    assert segmenter.changed(photograph("astronaut"), photograph("coffee")).mean() > 0.8


def test_the_drift_is_the_one_that_was_put_in() -> None:
    image = photograph("astronaut")
    assert compare(image, recoloured(image)).drift < 0.5
    assert 4.5 < compare(image, drifted(recoloured(image), (1, 1, 1), 6)).drift < 6.5


def test_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="into the frame"):
        segmenter.changed(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8))


def test_a_larger_least_island_leaves_small_changes_out() -> None:
    image = photograph("coffee")
    edited = image.copy()
    edited[20:28, 20:28] = (0, 255, 0)
    assert segmenter.changed(image, edited).any()
    assert not DifferenceSegmenter(DifferenceSettings(min_area_share=0.01)).changed(image, edited).any()


@few_examples
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**16))
def test_any_shape_and_content_gives_a_mask_of_that_shape_twice_the_same(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    mask = segmenter.changed(first, second)
    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, segmenter.changed(first, second))
    assert not segmenter.changed(first, first).any()
