"""Every operation changes its region visibly and nothing beyond it; targets find their pixels."""

import cv2
import numpy as np
import pytest

from pipeline.editors import operations
from pipeline.editors.figures import TEXTURES, lettering, shape_in_box, texture_pattern
from pipeline.editors.operations import mean_lab, to_lab
from pipeline.editors.plan import grown
from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab
from pipeline.editors.target_mask import clip_box, ellipse_in_box, target_mask, thing_in_box
from runtime.masks import mask_box
from tests.cases.editor_cases import BLOCK, DISC, SIDE, block, block_target, disc, disc_target, picture

CASES = {
    "recolour": lambda image: operations.recolour(image, disc(), colour_lab("blue")),
    "remove": lambda image: operations.remove(image, disc()),
    "replace": lambda image: operations.replace(image, disc(), "star", colour_lab("purple")),
    "insert": lambda image: operations.insert(image, (60, 6, 88, 34), "heart", colour_lab("red")),
    "paste": lambda image: operations.paste(image, (60, 6, 88, 34), image, disc()),
    "texture": lambda image: operations.texture(image, disc(), "checker", 5),
    "blur": lambda image: operations.blur(image, block(), 12.0),
    "relight darker": lambda image: operations.relight(image, disc(), 0.5),
    "relight brighter": lambda image: operations.relight(image, block(), 1.7),
    "move": lambda image: operations.relocate(image, disc(), (56, 6, 88, 38)),
    "resize": lambda image: operations.relocate(image, disc(), (20, 22, 40, 42)),
    "text": lambda image: operations.text(image, disc(), "HI", colour_lab("blue")),
}


def change(first, second):
    return np.linalg.norm(to_lab(first) - to_lab(second), axis=-1)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_shows_inside_and_touches_nothing_beyond_two_pixels(name):
    image = picture()
    edited, region = CASES[name](image)
    assert edited.dtype == np.uint8
    assert edited.shape == image.shape
    assert np.array_equal(edited[~grown(region, 2)], image[~grown(region, 2)])
    assert change(edited, image)[region].mean() > 6


@pytest.mark.parametrize("name", CASES)
def test_an_operation_leaves_its_input_alone_and_repeats_itself(name):
    image = picture()
    first = CASES[name](image)[0]
    assert np.array_equal(image, picture())
    assert np.array_equal(first, CASES[name](picture())[0])


@pytest.mark.parametrize("colour", COLOURS)
def test_recolour_gives_the_colour_and_keeps_the_shading(colour):
    image = picture()
    edited = operations.recolour(image, disc(), colour_lab(colour))[0]
    inner = cv2.erode(disc().astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0
    assert colour_distance(mean_lab(edited, inner), colour_lab(colour)) < 14
    before, after = to_lab(image)[..., 0][inner], to_lab(edited)[..., 0][inner]
    assert np.corrcoef(before, after)[0, 1] > 0.8


def test_remove_on_an_even_ground_gives_the_ground_back():
    ground = np.full((SIDE, SIDE, 3), (120, 150, 90), dtype=np.uint8)
    image = ground.copy()
    image[disc()] = (220, 20, 20)
    assert change(operations.remove(image, disc())[0], ground).max() < 2


def test_move_puts_the_things_pixels_there_and_takes_them_away_here():
    image = picture()
    x1, y1, x2, y2 = mask_box(disc())
    edited, region = operations.relocate(image, disc(), (x1 + 42, y1 - 10, x2 + 42, y2 - 10))
    core = np.hypot(*np.mgrid[-10:11, -10:11]) < 10
    there, here = edited[12:33, 62:83], image[22:43, 20:41]
    assert np.abs(there.astype(int) - here)[core].mean() < 1
    assert change(edited, image)[31, 29] > 30
    assert region[disc()].all()


def test_relight_scales_light_and_never_turns_bright_into_dark():
    image = np.tile(np.arange(SIDE, dtype=np.uint8)[None, :, None] * 2, (SIDE, 1, 3))
    everything = np.ones((SIDE, SIDE), dtype=np.bool_)
    darker, brighter = (operations.relight(image, everything, gain)[0].astype(int) for gain in (0.5, 1.8))
    assert np.abs(darker - image / 2).max() <= 1
    assert (brighter[:, 1:, 0] >= image[:, 1:, 0]).all()
    assert (np.diff(brighter[0, :, 0]) >= 0).all()


def test_a_region_of_the_whole_image_is_possible():
    image, everything = picture(), np.ones((SIDE, SIDE), dtype=np.bool_)
    assert change(operations.recolour(image, everything, colour_lab("green"))[0], image).mean() > 10
    assert np.isfinite(operations.remove(image, everything)[0]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_touches_the_four_sides_of_its_box(shape):
    box = (10, 20, 50, 44)
    coverage = shape_in_box(shape, box, SIDE, SIDE)
    assert mask_box(coverage > 0) == box
    assert np.abs(np.subtract(mask_box(coverage > 0.3), box)).max() <= 1


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_texture_has_light_and_dark_in_every_box(texture):
    pattern = texture_pattern(texture, DISC, SIDE, SIDE, 3)
    inside = pattern[DISC[1] : DISC[3], DISC[0] : DISC[2]]
    assert np.abs(pattern).max() <= 1
    assert (inside > 0.5).mean() > 0.08
    assert (inside < -0.5).mean() > 0.08


def test_letters_fill_their_box_and_stay_in_it():
    letters, outline = lettering("HELLO", (10, 20, 80, 60), SIDE, SIDE)
    box = mask_box(outline > 0.1)
    assert box is not None
    assert box[0] >= 10
    assert box[2] <= 80
    assert box[2] - box[0] > 50
    assert (outline >= letters).all()


def test_an_exact_mask_is_taken_as_it_is():
    assert np.array_equal(target_mask(picture(), disc_target()), disc())


def test_a_thing_is_found_in_its_box():
    found = target_mask(picture(), disc_target(mask=None))
    assert (found & disc()).sum() / (found | disc()).sum() > 0.8
    assert np.array_equal(found, target_mask(picture(), disc_target(mask=None)))


def test_where_nothing_stands_out_the_mask_is_the_ellipse_in_the_box():
    flat = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    assert np.array_equal(thing_in_box(flat, BLOCK), ellipse_in_box(BLOCK, SIDE, SIDE))
    share = ellipse_in_box(BLOCK, SIDE, SIDE).sum() / block().sum()
    assert share == pytest.approx(np.pi / 4, abs=0.02)


def test_a_box_over_the_whole_image_is_possible():
    assert thing_in_box(picture(), (0, 0, SIDE, SIDE)).any()


def test_text_and_added_things_have_their_box_or_shape_for_a_mask():
    assert np.array_equal(target_mask(picture(), block_target("text", mask=None)), block())
    added = target_mask(picture(), block_target("insert", role="add", mask=None, parameters={"shape": "disc"}))
    assert added.sum() / block().sum() == pytest.approx(np.pi / 4, abs=0.04)


def test_a_box_outside_the_image_is_refused():
    assert clip_box((80, 80, 120, 130), SIDE, SIDE) == (80, 80, SIDE, SIDE)
    with pytest.raises(ValueError, match="outside the image"):
        clip_box((100, 10, 120, 30), SIDE, SIDE)
    with pytest.raises(ValueError, match="neither box nor mask"):
        target_mask(picture(), disc_target(mask=None, box=None))
