"""A defect sits where it is said to sit, and more of it is more to see."""

import numpy as np
import pytest

from pipeline.editors.defect_strength import defect_place
from pipeline.editors.defects import DEFECT_KINDS, apply_defect, is_visible
from pipeline.editors.operations import to_lab
from pipeline.editors.plan import grown, make_plan
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import COLOURS, colour_lab
from schemas.candidate import Defect
from tests.cases.editor_cases import SIDE, block, block_target, disc, disc_target, picture, request_of

IN_REGION = tuple(kind for kind in DEFECT_KINDS if kind != "background_drift")
IN_BACKGROUND = ("other_object", "background_drift", "warp", "noise", "compression")
PLACES = [(kind, 0) for kind in IN_REGION] + [(kind, None) for kind in IN_BACKGROUND]


@pytest.fixture(scope="module")
def plan():
    targets = (disc_target(parameters={"color": "blue"}), block_target(parameters={"texture": "stripes"}))
    return make_plan(request_of(targets, [picture()]), [picture()])


def flawed(plan, kind, target, strength):
    defect = Defect(kind=kind, target=target, strength=strength)
    return apply_defect(plan.wanted, plan, defect, np.random.default_rng(5))


def change(first, second):
    return np.linalg.norm(to_lab(first) - to_lab(second), axis=-1)


@pytest.mark.parametrize(("kind", "target"), PLACES)
def test_a_defect_stays_in_its_place(plan, kind, target):
    for strength in (0.3, 1.0):
        place = defect_place(plan, Defect(kind=kind, target=target, strength=strength))
        image = flawed(plan, kind, target, strength)
        assert np.array_equal(image[~place], plan.wanted[~place])
        assert image.dtype == np.uint8


@pytest.mark.parametrize(("kind", "target"), PLACES)
def test_a_stronger_defect_shows_more(plan, kind, target):
    seen = [change(flawed(plan, kind, target, s), plan.wanted).mean() for s in (0.2, 0.6, 1.0)]
    assert 0 < seen[0] < seen[1]
    # A warp and the coarsest JPEG have an end in a region of 30 px; what is wrong is a colour or a pattern.
    assert seen[2] > (0.95 if kind in ("warp", "compression", "wrong_attribute") else 1.05) * seen[1]


@pytest.mark.parametrize(("kind", "target"), PLACES)
def test_a_defect_repeats_itself(plan, kind, target):
    assert np.array_equal(flawed(plan, kind, target, 0.5), flawed(plan, kind, target, 0.5))


def test_a_missed_edit_is_the_source_again(plan):
    assert change(flawed(plan, "missed", 0, 1.0), plan.source)[disc()].max() < 1
    assert change(flawed(plan, "half_done", 0, 1.0), plan.source)[disc()].mean() < 1


def test_half_of_a_half_done_edit_is_there(plan):
    image = flawed(plan, "half_done", 0, 0.4)
    asked = change(plan.source, plan.wanted)[disc()].sum()
    assert change(image, plan.wanted)[disc()].sum() / asked == pytest.approx(0.4, abs=0.05)


def test_a_wrong_attribute_is_another_thing_done_whole_as_far_off_as_the_strength_says(plan):
    asked = change(plan.source, plan.wanted)[disc()].mean()
    off = {}
    for strength in (0.4, 0.7, 1.0):
        image = flawed(plan, "wrong_attribute", 0, strength)
        off[strength] = change(image, plan.wanted)[disc()].mean()
        assert change(image, plan.source)[disc()].mean() > 15
        # One colour, whatever the strength, where a mixture would have some of two.
        core = ~grown(~disc(), 4)
        assert min(np.abs(to_lab(image)[core].mean(axis=0) - colour_lab(name)).max() for name in COLOURS) < 6
    assert off[0.4] < off[1.0]
    assert off[1.0] == pytest.approx(asked, rel=0.4)


def test_a_slight_mistake_needs_something_that_is_slightly_wrong(plan):
    slight = Defect(kind="wrong_attribute", target=1, strength=0.15)
    assert not is_visible(plan, slight, flawed(plan, "wrong_attribute", 1, 0.15))
    plain = Defect(kind="wrong_attribute", target=1, strength=0.9)
    assert is_visible(plan, plain, flawed(plan, "wrong_attribute", 1, 0.9))


def test_a_spill_leaks_outwards_by_its_strength_and_not_into_another_region(plan):
    weak, strong = (change(flawed(plan, "spill", 0, s), plan.wanted) > 3 for s in (0.2, 1.0))
    assert strong.sum() > 2 * weak.sum()
    assert not strong[disc() | block()].any()
    assert not (weak & ~grown(disc(), 4)).any()


def test_compression_blocks_and_noise_differ_in_grain(plan):
    noisy, blocky = flawed(plan, "noise", None, 0.5), flawed(plan, "compression", None, 0.5)
    diffs = [np.diff(image.astype(float), axis=1)[plan.background[:, 1:]].std() for image in (noisy, blocky)]
    assert diffs[0] > 2 * diffs[1]


def test_what_cannot_be_seen_is_known():
    flat = np.full((SIDE, SIDE, 3), 120, dtype=np.uint8)
    plan = make_plan(request_of((disc_target(parameters={"color": "red"}),), [flat]), [flat])
    warp = Defect(kind="warp", target=None, strength=0.8)
    drift = Defect(kind="background_drift", target=None, strength=0.8)
    assert not is_visible(plan, warp, flawed(plan, "warp", None, 0.8))
    assert is_visible(plan, drift, flawed(plan, "background_drift", None, 0.8))


def test_a_defect_without_a_place_is_refused(plan):
    with pytest.raises(CannotEdit, match="sits in a region") as caught:
        flawed(plan, "seam", None, 0.5)
    assert caught.value.reason == "no_place"
    whole = disc_target("relight", box=None, mask=None, label="everything", parameters={"gain": 0.5})
    everything = make_plan(request_of((whole,), [picture()]), [picture()])
    with pytest.raises(CannotEdit, match="no pixel"):
        flawed(everything, "background_drift", None, 0.5)
    with pytest.raises(ValueError, match="no target 9"):
        flawed(plan, "missed", 9, 0.5)
