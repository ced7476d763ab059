"""Plain scenes: what they hold, what is asked of them, and that a build makes them like any other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import BuildConfig
from pipeline.requests.scenes import PLAIN, scene_at
from pipeline.requests.scenes.plain import GROUNDS, PLAIN_COLOURS, plain_scene
from schemas.errors import BadInput
from training.policy.edit_cases import plain_case
from training.policy.token_masks import flux2_grid, token_masks

INDEXES = st.integers(0, 10_000)


@given(INDEXES)
def test_the_same_scene_comes_out_again_and_its_things_have_a_colour_each(index):
    scene, again = plain_scene(5, index, 128), plain_scene(5, index, 128)
    assert np.array_equal(scene.image_hwc_u8, again.image_hwc_u8)
    colours = [thing.colour for thing in scene.objects]
    assert 2 <= len(colours) <= 4
    assert len(set(colours)) == len(colours)
    assert set(colours) <= set(PLAIN_COLOURS)
    union = np.sum([thing.mask_hw for thing in scene.objects], axis=0)
    assert union.max() == 1, "no two things touch"


@given(INDEXES)
def test_a_request_names_its_things_and_changes_nothing_else(index):
    case = plain_case(6, index)
    assert 1 <= len(case.masks) <= 3
    for target in case.request.targets:
        assert target.label in case.request.instruction
    assert case.wanted is not None
    changed = (case.wanted != case.source).any(axis=2)
    asked = np.any(list(case.masks.values()), axis=0)
    for mask in case.masks.values():
        assert changed[mask].mean() > 0.95
    ys, xs = np.nonzero(changed & ~asked)
    near = np.pad(asked, 3)
    assert all(near[y : y + 7, x : x + 7].any() for y, x in zip(ys, xs, strict=True)), "at most a soft rim changes"


@given(INDEXES)
def test_every_region_reaches_at_least_four_positions_of_the_latents(index):
    case = plain_case(7, index)
    masks = token_masks(case.masks, flux2_grid(128, 128))
    assert masks.masks.shape[1] == 64
    assert ((masks.masks[:-1] > 0).sum(dim=1) >= 4).all()


def test_a_render_is_the_same_things_on_another_ground():
    first, second = plain_scene(5, 3, 64), plain_scene(5, 3, 64, render=1)
    assert [thing.label for thing in first.objects] == [thing.label for thing in second.objects]
    corners = {tuple(scene.image_hwc_u8[0, 0].tolist()) for scene in (first, second)}
    assert len(corners) == 2
    assert corners <= set(GROUNDS.values())


def test_the_pool_plain_stands_alone():
    line, image = scene_at(5, 3, 64, textures=(PLAIN,))
    assert np.array_equal(image, plain_scene(5, 3, 64).image_hwc_u8)
    assert line.source_group == "scene-5-00003"
    assert BuildConfig(scenes=1, scene_textures=(PLAIN,)).scene_textures == (PLAIN,)
    with pytest.raises((BadInput, ValueError), match="plain"):
        BuildConfig(scenes=1, scene_textures=(PLAIN, "brick"))


def test_a_size_out_of_range_is_refused():
    with pytest.raises(BadInput, match="16 px"):
        plain_scene(5, 3, 16)
