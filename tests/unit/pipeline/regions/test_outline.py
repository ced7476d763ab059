"""Outlines of regions on source and edited image, the way back, and what fusion makes of them."""

import numpy as np
import pytest

from pipeline.regions.fuse import fuse
from pipeline.regions.outline import Outline, Pair, outline
from pipeline.regions.planned import plan_regions
from runtime.images import box_mask
from runtime.masks import MaskBool, rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import Box
from schemas.region import ObservedMask
from schemas.request import Target
from tests.cases.region_fakes import SIDE, ColourSegmenter, grey, painted, request

OLD, NEW = (10, 10, 30, 30), (40, 20, 60, 40)
RED, BLUE = (250, 20, 20), (20, 20, 250)
#: The prompts are wider than the things, so that a mask differs from its box.
WIDE = (6, 6, 34, 34)


def filled(*boxes: Box) -> MaskBool:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    for box in boxes:
        mask |= box_mask(box, SIDE, SIDE)
    return mask


def outlined(target: Target, source, edited, segmenter: ColourSegmenter | None = None) -> Outline:  # type: ignore[no-untyped-def]
    ((number, found),) = outline([Pair(request(target), source, edited)], segmenter or ColourSegmenter())[0].items()
    assert number == 0
    return found


def mask_of(found: Outline) -> MaskBool:
    assert found.mask is not None
    return found.mask


def test_a_recoloured_thing_comes_back_as_itself() -> None:
    found = outlined(Target(label="x", box=WIDE), painted((OLD, RED)), painted((OLD, BLUE)))
    assert np.array_equal(mask_of(found), filled(OLD))
    assert (found.cycle_iou, found.confidence) == (1.0, 0.9)


def test_something_removed_is_outlined_on_the_source_and_something_added_on_the_edited_image() -> None:
    removed = outlined(Target(label="x", role="remove", box=WIDE), painted((OLD, RED)), grey())
    added = outlined(Target(label="x", role="add", box=WIDE), grey(), painted((OLD, RED)))
    for found in (removed, added):
        assert np.array_equal(mask_of(found), filled(OLD))
        assert found.cycle_iou is None


def test_something_moved_is_at_both_places_and_comes_back_to_the_first() -> None:
    wide_there = (36, 16, 64, 44)
    target = Target(label="x", operation="move", box=WIDE, destination=wide_there)
    found = outlined(target, painted((OLD, RED)), painted((NEW, RED)))
    assert np.array_equal(mask_of(found), filled(OLD, NEW))
    assert found.cycle_iou == 1.0


def test_a_mask_that_does_not_come_back_is_left_out_and_costs_confidence() -> None:
    small = (10, 10, 16, 16)  # what is there now covers a corner of what was there
    found = outlined(Target(label="x", box=WIDE), painted((OLD, RED)), painted((small, BLUE)))
    assert np.array_equal(mask_of(found), filled(OLD))
    assert found.cycle_iou == pytest.approx(36 / 400)
    assert found.confidence == pytest.approx(0.9 * 36 / 400 / 0.5)


def test_where_a_moved_thing_is_not_found_again_its_destination_is_a_box() -> None:
    target = Target(label="x", operation="move", box=WIDE, destination=NEW)
    found = outlined(target, painted((OLD, RED)), grey())
    assert np.array_equal(mask_of(found), filled(OLD, NEW))
    assert found.confidence == pytest.approx(0.45)


def test_a_mask_over_everything_is_not_believed() -> None:
    found = outlined(Target(label="x", box=OLD), grey(), grey(), ColourSegmenter(everything=True))
    assert found == Outline(None, 0.5)


def test_a_mask_that_came_with_the_request_needs_no_prompt() -> None:
    from runtime.masks import mask_to_rle

    segmenter = ColourSegmenter()
    given = Target(label="x", box=OLD, mask=mask_to_rle(filled(OLD)))
    assert outline([Pair(request(given), grey(), grey())], segmenter) == [{}]
    moved = given.model_copy(update={"destination": NEW, "operation": "move"})
    found = outline([Pair(request(moved), painted((OLD, RED)), painted((NEW, RED)))], segmenter)[0][0]
    assert np.array_equal(mask_of(found), filled(OLD, NEW))
    assert segmenter.calls == [(1, [1])]


def test_a_source_is_asked_once_for_its_candidates() -> None:
    segmenter = ColourSegmenter()
    source = painted((OLD, RED))
    asked = request(Target(label="x", box=WIDE), Target(label="all"), number=1)
    other = request(Target(label="x", role="add", box=NEW), number=2)
    pairs = [Pair(asked, source, painted((OLD, BLUE)))] * 4 + [Pair(other, source, painted((NEW, BLUE)))]
    found = outline(pairs, segmenter)
    assert segmenter.calls == [(2, [1, 0]), (5, [1] * 5), (1, [4])]
    assert [list(one) for one in found] == [[0]] * 5
    assert outline([], segmenter) == []


@pytest.mark.parametrize(
    ("segmenter", "fault"),
    [
        (ColourSegmenter(confidence=float("nan")), "answered the predicted IoU nan"),
        (ColourSegmenter(shape=(3, 4)), r"answered a mask of \(3, 4\) for an image of \(64, 64\)"),
    ],
)
def test_an_answer_that_is_none_names_the_model(segmenter: ColourSegmenter, fault: str) -> None:
    with pytest.raises(BadInput, match=f"^segmenter colour 1: {fault}"):
        outline([Pair(request(Target(label="x", box=OLD)), grey(), grey())], segmenter)


def fused(target: Target, changed: MaskBool, found: Outline) -> tuple[ObservedMask, ...]:
    asked = request(target)
    planned = plan_regions(asked, SIDE, SIDE)
    return fuse(asked, "c" * 16, planned, changed, (SIDE, SIDE), outlines={0: found})


def test_a_changed_region_is_its_outline_where_most_of_it_changed() -> None:
    changed = filled(OLD) & ~filled((12, 12, 16, 16))  # a part that the difference missed
    region, extra = fused(Target(label="x", box=WIDE), changed | filled(NEW), Outline(filled(OLD), 0.8, 0.95))
    assert np.array_equal(rle_to_mask(region.mask), filled(OLD))
    assert (region.status, region.origin, region.cycle_iou) == ("changed", "fusion", 0.95)
    assert region.confidence == pytest.approx(0.8)
    assert (extra.status, extra.origin, extra.cycle_iou) == ("unplanned", "difference", None)


def test_a_region_that_did_not_change_is_its_outline() -> None:
    (region,) = fused(Target(label="x", box=WIDE), filled(), Outline(filled(OLD), 0.8, 1.0))
    assert np.array_equal(rle_to_mask(region.mask), filled(OLD))
    assert (region.status, region.origin, region.confidence) == ("unchanged", "segmenter", 0.8)


def test_without_a_believed_mask_the_box_has_to_do() -> None:
    (region,) = fused(Target(label="x", box=OLD), filled(), Outline(None, 0.5))
    assert np.array_equal(rle_to_mask(region.mask), filled(OLD))
    assert (region.origin, region.confidence) == ("target", 0.25)


def test_two_outlines_that_overlap_own_each_pixel_once() -> None:
    asked = request(Target(label="a", box=(0, 0, 40, 40)), Target(label="b", box=(20, 20, 44, 44)))
    found = {0: Outline(filled((0, 0, 40, 40)), 0.9), 1: Outline(filled((20, 20, 44, 44)), 0.9)}
    changed = filled((0, 0, 44, 44))
    regions = fuse(asked, "c" * 16, plan_regions(asked, SIDE, SIDE), changed, (SIDE, SIDE), outlines=found)
    masks = [rle_to_mask(region.mask) for region in regions]
    assert not (masks[0] & masks[1]).any()
    assert masks[1][20:44, 20:44].all()  # the smaller outline owns what both hold


def test_a_region_without_a_way_back_is_written_as_before() -> None:
    (plain,) = fused(Target(label="x", box=OLD), filled(), Outline(filled(OLD), 0.8))
    assert "cycle_iou" not in plain.model_dump_json()
    assert ObservedMask.model_validate_json(plain.model_dump_json()) == plain
