"""Which regions of several annotators are the same, and the one mask that they make together."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.consensus import consensus, current
from annotation.raters.masks import area_px, joint_mask, overlaps
from annotation.raters.matching import match_regions
from runtime.masks import mask_to_rle, rle_to_mask
from schemas.geometry import CocoRle
from schemas.score import Annotation
from tests.cases.mask_cases import box_rle, outlined

PLANNED = "a" * 16
LEFT, RIGHT = box_rle(0, 0, 10, 10), box_rle(20, 0, 30, 10)
DAMAGED = CocoRle(size=(40, 40), counts="0")


def _groups(*rows: Annotation) -> dict[str, dict[str, CocoRle]]:
    found = match_regions(current(rows))
    return {group.key: {rater: mask.mask for rater, mask in group.masks.items()} for group in found}


def test_planned_regions_are_known_by_their_id_however_they_were_corrected() -> None:
    assert _groups(outlined("a", {PLANNED: LEFT}), outlined("b", {PLANNED: RIGHT})) == {
        PLANNED: {"a": LEFT, "b": RIGHT}
    }


def test_unplanned_regions_are_known_by_their_pixels_not_by_their_number() -> None:
    rows = [
        outlined("a", {"extra-0": LEFT, "extra-1": RIGHT}),
        outlined("b", {"extra-0": RIGHT, "extra-1": LEFT}),
        outlined("c", {"extra-5": box_rle(0, 0, 10, 9)}),
    ]
    found = _groups(*rows)
    by_raters = {tuple(sorted(masks)): masks for masks in found.values()}
    assert set(by_raters) == {("a", "b", "c"), ("a", "b")}
    assert by_raters["a", "b", "c"] == {"a": LEFT, "b": LEFT, "c": box_rle(0, 0, 10, 9)}
    assert by_raters["a", "b"] == {"a": RIGHT, "b": RIGHT}
    assert set(found) == {"extra-0", "extra-1"}


def test_an_overlap_below_the_threshold_makes_two_regions() -> None:
    half, less = box_rle(0, 0, 10, 5), box_rle(0, 0, 10, 4)
    assert len(_groups(outlined("a", {"extra-0": LEFT}), outlined("b", {"extra-0": half}))) == 1
    assert len(_groups(outlined("a", {"extra-0": LEFT}), outlined("b", {"extra-0": less}))) == 2


def test_the_assignment_is_the_best_on_the_whole() -> None:
    """One's wide mask overlaps both of the other's; its better fit would leave the narrow one without a partner."""
    wide, narrow = box_rle(0, 0, 20, 10), box_rle(0, 0, 14, 10)
    first, second = box_rle(0, 0, 18, 10), box_rle(0, 0, 20, 9)
    found = _groups(
        outlined("a", {"extra-0": wide, "extra-1": narrow}), outlined("b", {"extra-0": first, "extra-1": second})
    )
    assert sorted(len(masks) for masks in found.values()) == [2, 2]
    assert overlaps([wide], [second])[0, 0] + overlaps([narrow], [first])[0, 0] > 1.6


def test_overlaps_below_the_threshold_take_no_part_in_the_assignment() -> None:
    """.8 and 0 against .55 and .44: the second pairs have more in sum, but one of them is no pair."""
    rows = (
        outlined("a", {"extra-0": box_rle(0, 0, 20, 10), "extra-1": box_rle(0, 0, 7, 10)}),
        outlined("b", {"extra-0": box_rle(0, 0, 16, 10), "extra-1": box_rle(9, 0, 20, 10)}),
    )
    assert {"a": box_rle(0, 0, 20, 10), "b": box_rle(0, 0, 16, 10)} in _groups(*rows).values()


def test_regions_do_not_join_along_a_chain() -> None:
    """The middle one overlaps both ends by .54; the ends overlap by .25, so the three overlap too little on average."""
    ends, middle = (box_rle(0, 0, 20, 10), box_rle(12, 0, 32, 10)), box_rle(6, 0, 26, 10)
    rows = [outlined(rater, {"extra-0": box}) for rater, box in zip("abc", (ends[0], middle, ends[1]), strict=True)]
    found = _groups(*rows)
    assert sorted(len(masks) for masks in found.values()) == [1, 2]


def test_a_group_has_one_region_of_a_rater() -> None:
    near = box_rle(0, 0, 10, 9)
    found = _groups(outlined("a", {"extra-0": LEFT, "extra-1": near}), outlined("b", {"extra-0": LEFT}))
    assert sorted(len(masks) for masks in found.values()) == [1, 2]
    assert {"a": LEFT, "b": LEFT} in found.values()


BOXES = st.lists(st.integers(0, 12), min_size=1, max_size=3, unique=True)


@given(st.lists(BOXES, min_size=2, max_size=4), st.integers(0, 23))
def test_the_order_of_raters_and_their_numbers_do_not_matter(shifts: list[list[int]], order: int) -> None:
    def groups(numbered_from: int, rows: list[int]) -> list[set[tuple[str, str]]]:
        annotations = [
            outlined(
                f"r{n}", {f"extra-{k + numbered_from * n}": box_rle(x, 0, x + 9, 9) for k, x in enumerate(shifts[n])}
            )
            for n in rows
        ]
        found = match_regions(annotations)
        return sorted({(rater, mask.mask.counts) for rater, mask in group.masks.items()} for group in found)  # type: ignore[type-var]

    def as_sets(rows: list[set[tuple[str, str]]]) -> set[frozenset[tuple[str, str]]]:
        return {frozenset(row) for row in rows}

    straight = list(range(len(shifts)))
    turned = list(list(permutations(straight))[order % max(1, len(list(permutations(straight))))])
    assert as_sets(groups(0, straight)) == as_sets(groups(0, turned)) == as_sets(groups(7, straight))


def test_regions_without_a_mask_go_by_their_key() -> None:
    rows = [outlined("a", {}, 13), outlined("b", {}, 13)]
    regions = [{"region": key, "success": 13, "preserve": 13} for key in ("extra-3", "extra-1", PLANNED)]
    rows = [
        Annotation.model_validate({**row.model_dump(), "scores": {**row.scores.model_dump(), "regions": regions}})
        for row in rows
    ]
    found = match_regions(current(rows))
    assert [group.key for group in found] == [PLANNED, "extra-1", "extra-3"]
    assert all(set(group.scores) == {"a", "b"} for group in found)


def test_hostile_masks_overlap_nothing_and_break_nothing() -> None:
    other_size = box_rle(0, 0, 10, 10, side_px=50)
    huge = CocoRle(size=(65_535, 65_535), counts="0")
    empty = box_rle(0, 0, 0, 0)
    for bad in (DAMAGED, huge, other_size, empty, CocoRle(size=(40, 40), counts="o" * 300)):
        found = _groups(outlined("a", {"extra-0": LEFT}), outlined("b", {"extra-0": bad}))
        assert overlaps([LEFT], [bad])[0, 0] == 0
        assert sum(len(masks) for masks in found.values()) == 2
        said = consensus(current([outlined("a", {PLANNED: LEFT}), outlined("b", {PLANNED: bad})]), "one")
        assert said.regions[0].success.n_raters == 2
    assert (area_px(DAMAGED), area_px(huge), area_px(empty)) == (None, None, 0)
    assert overlaps([empty], [empty])[0, 0] == 1
    assert consensus([outlined("a", {PLANNED: DAMAGED})], "one").masks == ()


def test_many_unplanned_regions_are_numbered_apart() -> None:
    many = {f"extra-{n}": box_rle(n % 36, n // 36, n % 36 + 1, n // 36 + 1) for n in range(40)}
    found = _groups(outlined("a", many), outlined("b", dict(zip(reversed(many), many.values(), strict=True))))
    assert len(found) == 40
    assert all(len(masks) == 2 for masks in found.values())


def test_overlap_by_hand() -> None:
    assert overlaps([LEFT], [box_rle(5, 0, 15, 10)])[0, 0] == pytest.approx(50 / 150)
    assert area_px(LEFT) == 100


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100))
def test_masks_come_back_as_they_were(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    assert (rle_to_mask(mask_to_rle(mask)) == mask).all()
    assert area_px(mask_to_rle(mask)) == mask.sum()


def test_one_mask_of_two_has_what_either_has_and_of_three_what_most_have() -> None:
    half = box_rle(0, 0, 10, 5)
    assert joint_mask([LEFT, half]) == LEFT
    assert joint_mask([LEFT, LEFT, half]) == LEFT
    assert joint_mask([LEFT, half, half]) == half
    assert joint_mask([LEFT]) == LEFT
    assert joint_mask([DAMAGED]) is None


def test_the_joint_mask_is_nearer_to_the_truth_than_its_masks_and_the_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 40), dtype=np.bool_)
    truth[8:30, 6:33] = True
    edge = np.zeros_like(truth)
    edge[5:33, 3:36] = True
    edge[11:27, 9:30] = False
    masks = [mask_to_rle(truth ^ (edge & (rng.random(truth.shape) < 0.25))) for _ in range(5)]
    joint = joint_mask(masks)
    assert joint is not None
    one = overlaps([joint], [mask_to_rle(truth)])[0, 0]
    assert one > max(overlaps(masks, [mask_to_rle(truth)])[:, 0]) + 0.05
    assert joint_mask(masks[::-1]) == joint


def test_two_careless_annotators_do_not_outvote_two_careful_ones() -> None:
    """Half of all have the far box, which would be enough for a vote."""
    truth, far = rle_to_mask(box_rle(0, 0, 20, 20)), rle_to_mask(box_rle(30, 30, 38, 38))
    careless = [np.where(np.arange(40) % 3 == n, far, truth & (np.arange(40) % 2 == n)) | far for n in (0, 1)]
    masks = [
        mask_to_rle(truth),
        mask_to_rle(truth ^ rle_to_mask(box_rle(0, 0, 1, 3))),
        *(mask_to_rle(mask) for mask in careless),
    ]
    joint = joint_mask(masks)
    assert joint is not None
    assert not (rle_to_mask(joint) & far).any()
    assert overlaps([joint], [box_rle(0, 0, 20, 20)])[0, 0] > 0.98


def test_the_consensus_has_one_mask_a_region_with_its_confidence() -> None:
    rows = [outlined("a", {PLANNED: LEFT, "extra-0": RIGHT}), outlined("b", {PLANNED: box_rle(0, 0, 10, 5)})]
    found = consensus(current(rows), "one")
    planned, extra = found.masks
    assert (planned.region, planned.origin, planned.status, planned.mask) == (PLANNED, "consensus", "changed", LEFT)
    assert (planned.area_px, planned.box, planned.confidence) == (100, (0, 0, 10, 10), 0.75)
    assert (extra.region, extra.status, extra.mask, extra.confidence) == ("extra-0", "unplanned", RIGHT, 1)
