"""Alignment: the map that was put in is found, under an edit, drift and compression; unlike images agree in nothing."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from pipeline.regions.alignment import Map, align, displacement_px, expected_maps, matrix
from pipeline.regions.framing import EDGE_PX, MIN_AGREEMENT, frame
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, box_mask
from schemas.alignment import Alignment
from tests.cases.examples import few_examples

HEIGHT, WIDTH = 200, 256
EDIT = box_mask((90, 60, 170, 120), HEIGHT, WIDTH)
STILL = Alignment(agreement=None, residual_levels=None)


@pytest.fixture(scope="module", params=["astronaut", "coffee", "scene"])
def source(request: pytest.FixtureRequest) -> ImageU8:
    if request.param == "scene":
        return np.ascontiguousarray(render_scene(5, 3, WIDTH).image_hwc_u8[:HEIGHT])
    image = Image.fromarray(getattr(data, request.param)())
    return np.array(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def as_a_model_answers(source: ImageU8, there: Map, size: tuple[int, int] = (WIDTH, HEIGHT)) -> ImageU8:
    """The source with an edit, drifted, moved by a map and compressed."""
    edited = source.copy()
    edited[EDIT] = 255 - edited[EDIT]
    edited = np.clip(edited * np.array([1.05, 1.0, 0.97]) + 4, 0, 255).astype(np.uint8)
    moved = cv2.warpAffine(edited, there, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_CONSTANT, borderValue=9)
    buffer = BytesIO()
    Image.fromarray(moved).save(buffer, "JPEG", quality=88)
    return np.array(Image.open(buffer))


def misplaced_px(found: Alignment, there: Map) -> float:
    return displacement_px(found, (HEIGHT, WIDTH), there)


@pytest.mark.parametrize(
    "put_in",
    [
        {"dx_px": 9.0, "dy_px": -6.5},
        {"scale": 1.02},
        {"scale": 0.9, "dx_px": 4.0},
        {"scale": 1.1, "dy_px": -5.0},
        {"degrees": 0.5},
        {"degrees": -2.0, "scale": 1.03},
        {"aspect": 1.03, "shear": 0.02, "dx_px": -3.0},
    ],
)
def test_the_map_that_was_put_in_is_found(source: ImageU8, put_in: dict[str, float]) -> None:
    asked = STILL.model_copy(update=put_in)
    there = matrix(asked, (HEIGHT, WIDTH))
    found = align(source, as_a_model_answers(source, there))
    assert misplaced_px(found, there) < 0.6
    assert found.agreement is not None
    assert found.agreement > 2 * MIN_AGREEMENT
    for name in ("dx_px", "dy_px", "scale", "degrees", "aspect", "shear"):
        assert getattr(found, name) == pytest.approx(getattr(asked, name), abs=0.4 if name.endswith("px") else 0.1)


@few_examples
@given(
    st.floats(-20, 20), st.floats(-20, 20), st.floats(0.8, 1.25), st.floats(-10, 10), st.floats(0.93, 1.07),
    st.floats(-0.08, 0.08),
)  # fmt: skip
def test_a_map_is_its_numbers(dx: float, dy: float, scale: float, degrees: float, aspect: float, shear: float) -> None:
    one = Alignment(
        dx_px=dx, dy_px=dy, scale=scale, degrees=degrees, aspect=aspect, shear=shear, agreement=1, residual_levels=0
    )
    linear = matrix(one, (HEIGHT, WIDTH))[:, :2]
    assert np.sqrt(np.linalg.det(linear)) == pytest.approx(scale)
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    assert np.allclose(linear @ middle + matrix(one, (HEIGHT, WIDTH))[:, 2], middle + np.array([dx, dy]))


def test_what_was_not_moved_stays_byte_for_byte(source: ImageU8) -> None:
    edited = as_a_model_answers(source, np.eye(2, 3))
    framed = frame(source, edited)
    assert framed.image is edited
    assert (framed.unseen, framed.misplaced_share) == (None, 0.0)


def test_what_was_moved_is_brought_back_and_what_it_does_not_show_is_told(source: ImageU8) -> None:
    there = matrix(STILL.model_copy(update={"dx_px": 20.0, "scale": 1.05}), (HEIGHT, WIDTH))
    framed = frame(source, as_a_model_answers(source, there))
    assert framed.unseen is not None
    assert framed.unseen[:, -20:].all()
    assert not framed.unseen[50:150, 30:200].any()
    untouched = ~(framed.unseen | EDIT)
    apart = np.abs(framed.image.astype(float) - np.clip(source * np.array([1.05, 1.0, 0.97]) + 4, 0, 255)).mean(axis=2)
    assert apart[untouched].mean() < 6
    assert apart[framed.unseen].mean() < 6  # the source in the colours of the rest
    assert framed.misplaced_share > 0.08


def test_a_pixel_at_a_cut_edge_is_not_seen() -> None:
    image = np.array(Image.fromarray(data.astronaut()).resize((WIDTH, HEIGHT)))
    framed = frame(image, as_a_model_answers(image, matrix(STILL.model_copy(update={"dx_px": 12.0}), (HEIGHT, WIDTH))))
    assert framed.unseen is not None
    assert framed.unseen[:, : round(EDGE_PX)].all()


@pytest.mark.parametrize("size", [(320, 250), (512, 400), (256, 256), (200, 200), (256, 144)])
def test_another_size_or_aspect_is_brought_back_too(size: tuple[int, int]) -> None:
    """Resized, or the source's middle at another aspect."""
    image = np.array(Image.fromarray(data.astronaut()).resize((WIDTH, HEIGHT)))
    wide, high = size
    factor = max(wide / WIDTH, high / HEIGHT)
    linear = np.diag([factor, factor])
    offset = np.array([(wide - factor * WIDTH) / 2, (high - factor * HEIGHT) / 2])
    corner = np.array([0.5, 0.5])
    there = np.column_stack([linear, linear @ corner + offset - corner])
    framed = frame(image, as_a_model_answers(image, there, size))
    assert framed.image.shape == image.shape
    assert framed.alignment.agreement is not None
    assert framed.alignment.agreement > 0.5
    assert framed.misplaced_share < 0.02
    seen = np.ones((HEIGHT, WIDTH), dtype=np.bool_) if framed.unseen is None else ~framed.unseen
    assert np.abs(framed.image.astype(float) - image)[seen & ~EDIT].mean() < 10


def test_the_sizes_speak_for_the_same_picture_its_middle_or_a_border() -> None:
    assert len(list(expected_maps((200, 256), (400, 512)))) == 1
    same, middle, border = expected_maps((100, 200), (100, 100))
    assert np.array_equal(same, np.eye(2, 3))
    assert np.allclose(middle[:, :2], np.diag([2, 1]))
    assert np.allclose(border[:, :2], np.diag([1, 0.5]))


@pytest.mark.parametrize(
    "other",
    [
        lambda image: np.array(Image.fromarray(data.chelsea()).resize((WIDTH, HEIGHT))),
        lambda image: np.ascontiguousarray(image[:, ::-1]),
        lambda image: np.ascontiguousarray(image[::-1, ::-1]),
        lambda image: np.tile(image[::2, ::2], (2, 2, 1)),
        np.zeros_like,
        lambda image: np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8),
    ],
    ids=["another", "mirrored", "upside down", "tiled", "black", "noise"],
)
def test_another_picture_agrees_in_nothing_and_stays_as_it_came(other) -> None:  # type: ignore[no-untyped-def]
    image = np.array(Image.fromarray(data.astronaut()).resize((WIDTH, HEIGHT)))
    edited = other(image)
    framed = frame(image, edited)
    assert framed.alignment.agreement is not None
    assert framed.alignment.agreement < MIN_AGREEMENT
    assert framed.image is edited


def test_where_nothing_has_texture_nothing_is_said() -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    framed = frame(flat, flat + 20)
    assert framed.alignment == STILL
    assert framed.unseen is None


def test_what_may_change_need_not_agree(source: ImageU8) -> None:
    edited = source.copy()
    edited[:, 40:] = np.random.default_rng(1).integers(0, 256, edited[:, 40:].shape, dtype=np.uint8)
    free = box_mask((40, 0, WIDTH, HEIGHT), HEIGHT, WIDTH)
    whole, outside = align(source, edited).agreement, align(source, edited, free).agreement
    assert whole is not None
    assert whole < 0.3
    assert outside is None or outside > 0.8


@few_examples
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**16))
def test_any_two_images_give_one_of_the_sources_shape(height: int, width: int, high: int, wide: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    second = rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)
    assert frame(first, second).image.shape == first.shape
