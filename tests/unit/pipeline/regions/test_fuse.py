"""Targets and the difference mask, fused: cases worked by hand, and what must hold for any mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.regions.fuse import FusionSettings, background_mask, fuse
from pipeline.regions.planned import plan_regions, planned_mask
from runtime.images import box_mask
from runtime.masks import MaskBool, mask_to_rle, rle_to_mask
from schemas.geometry import Box
from schemas.region import region_id
from schemas.request import EditRequest, Source, Target

SIDE = 64
SHAPE = (SIDE, SIDE)
CANDIDATE = "c" * 16
#: At 64 px: margin 6 px * 64 / 256 = 1.5 -> 2 px for boxes up to 25 px.
MARGIN_PX = 2


def request_of(*targets: Target, size_px: int = SIDE) -> EditRequest:
    source = Source(name="s", origin_sha256="0" * 64, pixels_sha256="0" * 64, width_px=size_px, height_px=size_px)
    return EditRequest(
        id="0" * 16, name="r", kind="single", sources=(source,), instruction="do it", targets=targets, edit_type="x",
        synthetic=True,
    )  # fmt: skip


def fused(targets, changed: MaskBool, **arguments):
    request = request_of(*targets)
    return fuse(request, CANDIDATE, plan_regions(request, SIDE, SIDE), changed, SHAPE, **arguments)


def target(box: Box | None = None, **fields) -> Target:
    return Target(label="thing", box=box, **fields)


def filled(*boxes: Box) -> MaskBool:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    for box in boxes:
        mask |= box_mask(box, *SHAPE)
    return mask


def test_planned_box_is_the_union_of_old_and_new_place() -> None:
    request = request_of(target((4, 4, 10, 12), operation="move", destination=(30, 2, 36, 10)), target(None))
    planned = plan_regions(request, SIDE, SIDE)
    assert [region.box for region in planned] == [(4, 2, 36, 12), (0, 0, SIDE, SIDE)]
    assert [region.id for region in planned] == [region_id(request.id, 0), region_id(request.id, 1)]
    assert [region.target for region in planned] == [0, 1]


def test_planned_boxes_scale_with_the_image() -> None:
    planned = plan_regions(request_of(target((10, 20, 30, 40)), size_px=128), 64, 64)
    assert planned[0].box == (5, 10, 15, 20)


def test_a_target_without_box_but_with_a_mask_is_planned_around_the_mask() -> None:
    planned = plan_regions(request_of(target(None, mask=mask_to_rle(filled((8, 9, 20, 30))))), SIDE, SIDE)
    assert planned[0].box == (8, 9, 20, 30)


def test_what_changed_inside_the_box_is_the_region() -> None:
    (region,) = fused([target((10, 10, 30, 30))], filled((12, 12, 28, 26)))
    assert (region.status, region.origin, region.box) == ("changed", "fusion", (12, 12, 28, 26))
    assert region.area_px == 16 * 14
    assert region.source_change_share == 1.0
    assert region.confidence == 1.0


def test_spill_within_the_margin_belongs_to_the_target_and_beyond_is_unplanned() -> None:
    changed = filled((10, 10, 30, 50))
    region, extra = fused([target((10, 10, 30, 30))], changed)
    assert region.box == (10, 10, 30, 30 + MARGIN_PX)
    assert (extra.region, extra.status, extra.origin) == ("extra-0", "unplanned", "difference")
    assert extra.box == (10, 30 + MARGIN_PX, 30, 50)
    assert 0.9 < region.confidence < 1.0


def test_a_named_thing_that_did_not_change_keeps_its_box_or_mask() -> None:
    exact = filled((42, 42, 50, 48))
    boxed, masked = fused([target((10, 10, 20, 20)), target((40, 40, 52, 52), mask=mask_to_rle(exact))], filled())
    assert (boxed.status, boxed.origin, boxed.box) == ("unchanged", "target", (10, 10, 20, 20))
    assert boxed.source_change_share == 0.0
    assert np.array_equal(rle_to_mask(masked.mask), exact)
    assert masked.confidence > boxed.confidence


def test_a_few_noisy_pixels_do_not_make_a_change() -> None:
    assert fused([target((10, 10, 30, 30))], filled((15, 15, 17, 17)))[0].status == "unchanged"


def test_a_move_has_its_old_and_its_new_place() -> None:
    moved = target((4, 4, 14, 14), operation="move", destination=(40, 40, 50, 50))
    (region,) = fused([moved], filled((4, 4, 14, 14), (40, 40, 50, 50)))
    assert np.array_equal(rle_to_mask(region.mask), filled((4, 4, 14, 14), (40, 40, 50, 50)))


def test_between_two_boxes_a_pixel_goes_to_the_nearest() -> None:
    left, right = fused([target((10, 10, 20, 20)), target((22, 10, 32, 20))], filled((10, 10, 32, 20)))
    assert left.box == (10, 10, 21, 20)
    assert right.box == (21, 10, 32, 20)


def test_inside_two_boxes_a_pixel_goes_to_the_smaller() -> None:
    shirt, logo = fused([target((10, 10, 50, 50)), target((20, 20, 28, 28))], filled((10, 10, 50, 50)))
    assert np.array_equal(rle_to_mask(logo.mask), filled((20, 20, 28, 28)))
    assert not (rle_to_mask(shirt.mask) & rle_to_mask(logo.mask)).any()


@pytest.mark.parametrize(
    "second",
    [
        target((10, 10, 30, 30)),
        target((10, 10, 31, 30)),
        target((10, 10, 30, 29)),
        target((10, 10, 30, 30), role="add"),
        target((10, 10, 30, 30), mask=mask_to_rle(filled((10, 10, 24, 30)))),
        target(None, mask=mask_to_rle(filled((10, 10, 30, 30)))),
    ],
)
@pytest.mark.parametrize("changed", [(12, 12, 28, 26), (0, 0, 0, 0)])
def test_two_targets_of_one_place_share_its_mask(second: Target, changed: Box) -> None:
    other = target((40, 40, 50, 50))
    for targets in ([target((10, 10, 30, 30)), second, other], [second, target((10, 10, 30, 30)), other]):
        first, twin, apart, *extras = fused(targets, filled(changed, (40, 40, 50, 50)))
        assert [first.region, twin.region] == [region_id("0" * 16, index) for index in (0, 1)]
        assert first.mask == twin.mask
        assert first.status == twin.status == ("changed" if any(changed) else "unchanged")
        assert (apart.status, apart.area_px, extras) == ("changed", 100, [])


def test_masks_of_two_halves_of_one_box_are_two_places() -> None:
    halves = [filled((10, 10, 20, 30)), filled((20, 10, 30, 30))]
    targets = [target((10, 10, 30, 30), mask=mask_to_rle(half)) for half in halves]
    found = fused(targets, filled((10, 10, 30, 30)))
    assert [np.array_equal(rle_to_mask(region.mask), half) for region, half in zip(found, halves, strict=True)] == [
        True,
        True,
    ]


def test_an_exact_mask_that_changed_mostly_is_taken_whole() -> None:
    exact = filled((10, 10, 30, 30))
    (region,) = fused([target((10, 10, 30, 30), mask=mask_to_rle(exact))], filled((10, 10, 30, 25)))
    assert np.array_equal(rle_to_mask(region.mask), exact)
    assert region.source_change_share == 0.75


def test_a_half_done_edit_keeps_the_half_that_was_done() -> None:
    exact = filled((10, 10, 30, 30))
    (region,) = fused([target((10, 10, 30, 30), mask=mask_to_rle(exact))], filled((10, 10, 20, 30)))
    assert region.box == (10, 10, 20, 30)


def test_extras_come_biggest_first_small_ones_left_out_and_capped() -> None:
    changed = filled((2, 2, 6, 6), (40, 2, 50, 12), (2, 40, 8, 46), (60, 60, 61, 61))
    extras = fused([target((25, 25, 30, 30))], changed, settings=FusionSettings(max_extras=2))[1:]
    assert [(extra.region, extra.area_px) for extra in extras] == [("extra-0", 100), ("extra-1", 36)]
    assert len(fused([target((25, 25, 30, 30))], changed)) == 1 + 3


def test_a_global_edit_leaves_no_background() -> None:
    whole, thing = fused([target(None), target((10, 10, 20, 20))], filled((10, 10, 20, 20), (40, 40, 60, 60)))
    assert (whole.status, thing.status) == ("changed", "changed")
    assert not background_mask((whole, thing), SHAPE).any()
    assert np.array_equal(rle_to_mask(thing.mask), filled((10, 10, 20, 20)))


def test_a_global_edit_is_changed_by_drift_alone_when_told_so() -> None:
    assert fused([target(None)], filled())[0].status == "unchanged"
    assert fused([target(None)], filled(), image_changed=True)[0].status == "changed"


def test_background_is_everything_outside() -> None:
    observed = fused([target((10, 10, 20, 20))], filled((10, 10, 20, 20), (40, 40, 50, 50)))
    assert np.array_equal(background_mask(observed, SHAPE), ~filled((10, 10, 20, 20), (40, 40, 50, 50)))
    assert background_mask((), SHAPE).all()


def test_planned_mask_grows_by_the_margin_and_stays_in_the_image() -> None:
    planned = plan_regions(request_of(target((0, 10, 20, 20))), SIDE, SIDE)
    assert np.array_equal(planned_mask(planned, SHAPE, 3), filled((0, 7, 23, 23)))


def test_a_mask_of_another_shape_is_refused() -> None:
    request = request_of(target((1, 1, 5, 5)))
    with pytest.raises(ValueError, match="changed_mask"):
        fuse(request, CANDIDATE, plan_regions(request, SIDE, SIDE), np.zeros((3, 4), dtype=np.bool_), SHAPE)


coordinates = st.tuples(*[st.integers(0, SIDE - 1)] * 2, *[st.integers(1, 30)] * 2)
boxes = coordinates.map(lambda c: (c[0], c[1], min(SIDE, c[0] + c[2]), min(SIDE, c[1] + c[3])))


@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, max_size=5))
def test_regions_never_overlap_and_hold_every_planned_id_once(places: list[Box], edits: list[Box]) -> None:
    changed = filled(*edits)
    targets = [target(box) for box in places]
    observed = fused(targets, changed)
    ids = [region.region for region in observed]
    assert ids[: len(targets)] == [region_id("0" * 16, index) for index in range(len(targets))]
    assert ids[len(targets) :] == [f"extra-{n}" for n in range(len(ids) - len(targets))]
    moving = [rle_to_mask(rle) for rle in {region.mask for region in observed if region.status != "unchanged"}]
    assert not moving or np.sum(moving, axis=0).max() <= 1
    assert all(region.area_px == rle_to_mask(region.mask).sum() > 0 for region in observed)
    assert observed == fused(targets, changed)
    smallest = FusionSettings().min_extra_share * SIDE * SIDE
    assert all(region.area_px >= smallest for region in observed[len(targets) :])
