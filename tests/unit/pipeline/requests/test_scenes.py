"""Procedural scenes: the same bytes each time, masks that are what they say, requests that can be carried out."""

import math
from functools import partial
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.editors.shapes import (
    COLOURS,
    RING_HOLE,
    SHAPES,
    colour_distance,
    colour_lab,
    rgb_lab,
    shape_coverage,
    shape_outline,
)
from pipeline.requests.scenes import (
    OPERATIONS,
    TEXTURES,
    Scene,
    render_scene,
    render_without,
    scene_at,
    scene_name,
    scene_request,
    scene_requests,
)
from pipeline.requests.scenes.plan import plan_scene
from runtime.masks import mask_box, rle_to_mask
from schemas.errors import BadInput
from schemas.request import RequestLine, Target
from tests.cases.examples import few_examples
from tests.cases.work import calls

SIZES = (32, 64, 128, 257, 512)
MASKED = {"recolour", "remove", "replace", "texture", "blur", "relight", "move", "resize", "text"}


def grown(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by_px + 1, 2 * by_px + 1), np.uint8)).astype(bool)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16)).max(axis=2)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(21, index, SIZES[index % len(SIZES)], index % 3) for index in range(25)]


@pytest.fixture(scope="module")
def requests() -> list[tuple[Scene, RequestLine]]:
    drawn = [render_scene(31, index, 96) for index in range(100)]
    return [(scene, scene_request(scene)) for scene in drawn]


@pytest.mark.parametrize("size_px", SIZES)
def test_same_arguments_give_the_same_bytes(size_px: int) -> None:
    request, image = scene_at(3, 5, size_px, 1)
    scene_at(3, 6, 48)
    again_request, again = scene_at(3, 5, size_px, 1)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, again)
    assert request == again_request


def test_part_17_is_made_without_parts_0_to_16() -> None:
    whole = list(scene_requests(9, 12, 64))
    part = list(scene_requests(9, 4, 64, start=8))
    for (request, image), (same_request, same_image) in zip(whole[8:], part, strict=True):
        assert request == same_request
        assert np.array_equal(image, same_image)
    assert all(not np.array_equal(a, b) for (_, a), (_, b) in pairwise(whole))


def test_ids_are_unique_and_name_seed_index_and_render() -> None:
    ids = [scene_at(seed, index, 32, render)[0].id for seed in (0, 7) for index in range(5) for render in (0, 1)]
    assert len(set(ids)) == len(ids)
    assert scene_name(render_scene(7, 12, 32, 0)) == "scene-7-00012-0"
    assert scene_at(7, 12, 32, 1)[0].sources == ("scene-7-00012-1",)


def test_another_render_shows_the_same_objects_differently() -> None:
    for index in range(12):
        first, second = (render_scene(2, index, 128, render) for render in (0, 1))
        assert [o.label for o in first.objects] == [o.label for o in second.objects]
        for a, b in zip(first.objects, second.objects, strict=True):
            assert np.array_equal(a.mask_hw, b.mask_hw)
        assert first.texture == second.texture
        assert difference(first.image_hwc_u8, second.image_hwc_u8).mean() > 3
        assert scene_request(first).targets == scene_request(second).targets


def test_another_render_has_another_crop_of_the_texture() -> None:
    """Correlation of the backgrounds of two renders, in luminance: unlike crops, not one in another light."""
    likeness = []
    for index in range(20):
        first, second = (render_scene(2, index, 96, render) for render in (0, 1))
        clear = ~grown(np.logical_or.reduce([thing.mask_hw for thing in first.objects]), 10)
        a, b = (scene.image_hwc_u8.mean(axis=2)[clear] for scene in (first, second))
        likeness.append(float(np.corrcoef(a, b)[0, 1]))
    assert np.median(likeness) < 0.5


def test_a_scene_is_the_same_at_every_size() -> None:
    """Masks of one scene, brought to one size, agree up to one pixel of border and have the same centre."""
    for index in range(3):
        small, large = render_scene(4, index, 128), render_scene(4, index, 512)
        assert [o.label for o in small.objects] == [o.label for o in large.objects]
        for a, b in zip(small.objects, large.objects, strict=True):
            shrunk = cv2.resize(b.mask_hw.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) >= 0.5
            assert not (shrunk & ~grown(a.mask_hw, 1)).any()
            assert not (a.mask_hw & ~grown(shrunk, 1)).any()
            centre, same = (np.argwhere(mask).mean(axis=0) for mask in (shrunk, a.mask_hw))
            assert np.hypot(*(centre - same)) < 0.2


def test_masks_fit_their_boxes_and_never_meet(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert 2 <= len(scene.objects) <= 6
        for thing in scene.objects:
            assert thing.mask_hw.shape == (scene.size_px, scene.size_px)
            assert mask_box(thing.mask_hw) == thing.box
            assert min(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]) >= 4
        for a, b in combinations(scene.objects, 2):
            assert not (grown(a.mask_hw, 1) & b.mask_hw).any()


def test_labels_name_shape_and_colour_once(scenes: list[Scene]) -> None:
    for scene in scenes:
        looks = {(thing.shape, thing.colour) for thing in scene.objects}
        assert len(looks) == len(scene.objects)
        for thing in scene.objects:
            assert thing.shape in SHAPES
            assert thing.colour in COLOURS
            assert thing.label.endswith(f"{thing.colour} {thing.shape}")


def test_masks_mark_the_objects(scenes: list[Scene]) -> None:
    """Taking all objects away changes nearly every masked pixel, and beyond the shadows none."""
    for scene in scenes:
        changed = difference(scene.image_hwc_u8, render_without(scene, tuple(range(6)))) > 8
        radii_px = [thing.radius * scene.size_px for thing in plan_scene(scene.seed, scene.index, TEXTURES).objects]
        reach = np.zeros_like(changed)
        for thing, radius_px in zip(scene.objects, radii_px, strict=True):
            assert changed[thing.mask_hw].mean() > 0.97
            reach |= grown(thing.mask_hw, math.ceil(0.5 * radius_px) + 1)
        assert not changed[~reach].any()


def test_without_one_object_the_others_stay_as_they_are() -> None:
    for index in range(6):
        scene = render_scene(8, index, 160, 1)
        gone, *rest = scene.objects
        changed = difference(scene.image_hwc_u8, render_without(scene, (0,))) > 0
        assert changed[gone.mask_hw].mean() > 0.97
        # A glow may reach the soft rim of a thing next to it.
        assert all(not (changed & ~grown(~thing.mask_hw, 1)).any() for thing in rest)
        assert np.array_equal(render_without(scene, ()), scene.image_hwc_u8)


def test_objects_stand_out_from_their_surroundings_and_each_other() -> None:
    """In CIE Lab, over all renders: mean colour of an object against a ring about it and against the other objects."""
    around, between = [], []
    for index in range(100):
        scene = render_scene(500, index, 96, index % 4)
        things = np.logical_or.reduce([grown(thing.mask_hw, 2) for thing in scene.objects])
        colours = [rgb_lab(tuple(scene.image_hwc_u8[thing.mask_hw].mean(axis=0))) for thing in scene.objects]
        for thing, colour in zip(scene.objects, colours, strict=True):
            ring = grown(thing.mask_hw, 9) & ~things
            around.append(colour_distance(colour, rgb_lab(tuple(scene.image_hwc_u8[ring].mean(axis=0)))))
        between += [colour_distance(a, b) for a, b in combinations(colours, 2)]
    assert min(around) > 20
    assert np.quantile(around, 0.05) > 30
    assert min(between) > 20


def test_colours_differ_from_one_another() -> None:
    assert min(colour_distance(colour_lab(a), colour_lab(b)) for a, b in combinations(COLOURS, 2)) > 25


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_as_large_as_the_outline(shape: str) -> None:
    """Summed coverage against the shoelace area, and its centre of mass where the window's middle is."""
    points = shape_outline(shape)
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 1.001
    x, y = points[:, 0], points[:, 1]
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    if shape == "ring":
        area *= 1 - RING_HOLE**2
    coverage = shape_coverage(shape, (40.0, 40.0), 30.0, 0.1, (0, 0, 80, 80))
    assert coverage.sum() / 900 == pytest.approx(area, rel=0.03)
    if shape in ("disc", "square", "ring", "cross", "diamond"):
        assert float((coverage.sum(axis=0) * (np.arange(80) + 0.5)).sum() / coverage.sum()) == pytest.approx(
            40, abs=0.1
        )


def test_requests_parse_and_every_operation_occurs(requests: list[tuple[Scene, RequestLine]]) -> None:
    seen = set()
    for _, request in requests:
        assert RequestLine.from_json(request.model_dump_json(), thing="request") == request
        assert 1 <= len(request.targets) <= 3
        seen.update(target.operation for target in request.targets)
    assert seen == set(OPERATIONS)
    assert {len(request.targets) for _, request in requests} == {1, 2, 3}


def test_targets_have_the_masks_of_their_objects(requests: list[tuple[Scene, RequestLine]]) -> None:
    for scene, request in requests:
        by_label = {thing.label: thing for thing in scene.objects}
        for target in request.targets:
            if target.operation == "insert":
                assert target.role == "add"
                assert target.mask is None
                assert target.box is not None
                continue
            thing = by_label[target.label]
            assert target.operation in MASKED
            assert target.role == ("remove" if target.operation == "remove" else "change")
            assert target.mask is not None
            assert np.array_equal(rle_to_mask(target.mask), thing.mask_hw)
            assert target.box == thing.box


def test_destinations_are_free_background_inside_the_image(requests: list[tuple[Scene, RequestLine]]) -> None:
    for scene, request in requests:
        claimed = np.zeros((scene.size_px, scene.size_px), dtype=int)
        for target in request.targets:
            place = target.box if target.operation == "insert" else target.destination
            assert (place is not None) == (target.operation in ("insert", "move", "resize"))
            if place is None:
                continue
            x1, y1, x2, y2 = place
            assert min(x1, y1) >= 0
            assert max(x2, y2) <= scene.size_px
            claimed[y1:y2, x1:x2] += 1
            others = [thing for thing in scene.objects if target.operation != "resize" or thing.label != target.label]
            assert not any(thing.mask_hw[y1:y2, x1:x2].any() for thing in others)
        assert claimed.max() <= 1


def test_parameters_ask_for_a_visible_change(requests: list[tuple[Scene, RequestLine]]) -> None:
    for scene, request in requests:
        by_label = {thing.label: thing for thing in scene.objects}
        for target in request.targets:
            if target.operation != "insert":
                assert_visible(target, by_label[target.label].colour, by_label[target.label].texture)


def assert_visible(target: Target, colour: str, pattern: str | None) -> None:
    parameters = target.parameters
    if target.operation in ("recolour", "replace", "text"):
        assert colour_distance(colour_lab(str(parameters["color"])), colour_lab(colour)) >= 30
    if target.operation == "texture":
        assert parameters["texture"] != pattern
    if target.operation == "blur":
        assert pattern is not None
    if target.operation == "relight":
        before = COLOURS[colour]
        after = tuple(min(255.0, float(parameters["gain"] or 1) * channel) for channel in before)
        assert colour_distance(rgb_lab(before), rgb_lab((after[0], after[1], after[2]))) >= 15
    if target.operation in ("move", "resize"):
        assert target.box is not None
        assert target.destination is not None
        old, new = (math.prod(box[k + 2] - box[k] for k in (0, 1)) for box in (target.box, target.destination))
        assert (old == new) if target.operation == "move" else not 0.7 < new / old < 1.6


@pytest.fixture(scope="module")
def scenes_of_64_px() -> list[Scene]:
    return [render_scene(1, index, 64) for index in range(20)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_targets_can_be_asked_for(scenes_of_64_px: list[Scene], count: int) -> None:
    wanted = [scene_request(scene, targets=count) for scene in scenes_of_64_px]
    assert all(1 <= len(request.targets) <= count for request in wanted)
    assert sum(len(request.targets) == count for request in wanted) >= 18


@few_examples
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6), size_px=st.integers(32, 300), render=st.integers(0, 9))
def test_any_scene_gives_a_valid_request(seed: int, index: int, size_px: int, render: int) -> None:
    request, image = scene_at(seed, index, size_px, render)
    assert image.shape == (size_px, size_px, 3)
    assert RequestLine.from_json(request.model_dump_json(), thing="request") == request


def test_the_pool_of_textures_is_kept_to_and_leaves_the_places_alone() -> None:
    pool = ("brick", "moon")
    assert {render_scene(6, index, 32, textures=pool).texture for index in range(15)} == set(pool)
    assert {render_scene(6, index, 32).texture for index in range(60)} == set(TEXTURES)
    for index in range(20):
        few, whole = plan_scene(6, index, pool), plan_scene(6, index, TEXTURES)
        assert [(thing.centre, thing.radius) for thing in few.objects] == [(t.centre, t.radius) for t in whole.objects]


@pytest.mark.parametrize("size_px", [0, 31, 5000])
def test_a_size_out_of_range_is_refused(size_px: int) -> None:
    with pytest.raises(BadInput, match="size is"):
        render_scene(0, 0, size_px)


def test_an_unknown_texture_and_an_empty_pool_are_refused() -> None:
    with pytest.raises(BadInput, match="'marble'"):
        render_scene(0, 0, 64, textures=("brick", "marble"))
    with pytest.raises(BadInput, match="is empty"):
        render_scene(0, 0, 64, textures=())
    with pytest.raises(BadInput, match="below 0"):
        render_scene(0, -1, 64)


def test_a_larger_scene_takes_no_more_calls() -> None:
    """Pixels are the business of NumPy and OpenCV."""
    small, large = ([calls(partial(scene_at, 77, index, size_px)) for index in range(4)] for size_px in (128, 512))
    assert max(small) < 30_000
    assert sum(large) < 1.2 * sum(small)
