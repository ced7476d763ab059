"""Targets that instructions name, found by a detector: boxes, destinations, and a reason for every one that fails."""

import numpy as np
import pytest

from pipeline.regions import targets
from pipeline.regions.targets import CHUNK_ROWS, name_targets, targets_of, whole_pixels
from pipeline.requests.instructions import parse_instruction
from runtime.masks import rle_to_mask
from schemas.errors import BadInput
from schemas.request import Target
from schemas.sample import Rejection, Sample
from tests.cases.region_fakes import SIDE, WrittenDetector, grey, request, sample

CUPS = {"cup": [(4.2, 4.0, 20.0, 19.5), (40.0, 4.0, 56.0, 20.0)], "spoon": [(30.0, 30.0, 34.0, 60.0)]}


def named(
    detector: WrittenDetector, instruction: str, *targets: Target, turns: tuple[str, ...] = ()
) -> Sample | Rejection:
    row = sample(request(*targets, instruction=instruction, turns=turns))
    (result,) = name_targets([(row, grey())], lambda: detector)
    return result


def found(instruction: str, boxes: dict = CUPS) -> tuple[Target, ...]:
    result = named(WrittenDetector(boxes), instruction)
    assert isinstance(result, Sample), result
    return result.request.targets


def test_each_thing_named_gets_the_box_that_is_meant() -> None:
    right, spoon = found("Make the right cup red and remove the spoon")
    assert (right.box, right.operation, right.parameters) == ((40, 4, 56, 20), "recolour", {"color": "red"})
    assert (spoon.box, spoon.role) == ((30, 30, 34, 60), "remove")
    assert [target.box for target in found("Make all cups blue")] == [(4, 4, 20, 20), (40, 4, 56, 20)]


def test_something_added_gets_the_place_it_shall_fill() -> None:
    (bird,) = found("Add a bird above the spoon")
    assert bird.role == "add"
    assert bird.box is not None
    assert bird.box[3] <= 30
    assert 30 <= (bird.box[0] + bird.box[2]) / 2 <= 34


def test_a_move_and_a_resize_get_destinations_inside_the_image() -> None:
    (moved,) = found("Move the left cup to the right")
    assert moved.destination == (21, 4, 38, 20)
    assert moved.parameters == {}
    (onto,) = found("Move the left cup next to the spoon")
    assert onto.destination is not None
    assert abs((onto.destination[0] + onto.destination[2]) / 2 - 36) <= 1
    (grown,) = found("Make the spoon bigger")
    assert grown.destination == (29, 22, 35, 64)
    (edge,) = found("Move the right cup to the right")
    assert edge.destination == (48, 4, 64, 20)


def test_the_whole_image_has_no_box_and_exceptions_are_left_out_of_its_mask() -> None:
    (whole,) = found("Brighten the image")
    assert (whole.box, whole.mask) == (None, None)
    (rest,) = found("Turn everything except the left cup black and white")
    assert rest.mask is not None
    outside = np.ones((SIDE, SIDE), dtype=np.bool_)
    outside[4:20, 4:20] = False
    assert np.array_equal(rle_to_mask(rest.mask), outside)


def test_targets_that_were_given_win_and_ids_stay() -> None:
    detector = WrittenDetector(CUPS)
    given = Target(label="cup", box=(1, 2, 3, 4))
    kept = named(detector, "Mach die Tasse rot", given)
    assert isinstance(kept, Sample)
    assert kept.request.targets == (given,)
    assert detector.calls == []
    result = named(detector, "Make the left cup red")
    assert isinstance(result, Sample)
    assert result.request.id == request().id
    assert result.request.edit_type == "recolour"


def test_every_turn_is_read() -> None:
    result = named(
        WrittenDetector(CUPS), "two steps", turns=("Make the left cup red", "Remove the spoon")
    )  # fmt: skip
    assert isinstance(result, Sample)
    assert [(target.label, target.turn) for target in result.request.targets] == [("left cup", 0), ("spoon", 1)]


@pytest.mark.parametrize(
    ("instruction", "reason", "detail"),
    [
        ("Make the dog red", "no_detection", "no 'dog' was found"),
        ("Remove the three cups", "too_few", "2 of 'cup' found, the instruction counts to 3"),
        ("Mach die Tasse rot", "not_english", "give it in English"),
        ("What a nice photo", "no_target", "names nothing"),
        ("Turn everything except the dog black and white", "except_not_found", "no 'dog' was found"),
        ("Add a bird above the dog", "anchor_not_found", "no 'dog' was found"),
        ("Make the left cup red. Frobnicate zot.", "unread_part", "Frobnicate zot"),
    ],
)
def test_what_cannot_be_named_is_rejected_and_says_why(instruction: str, reason: str, detail: str) -> None:
    result = named(WrittenDetector(CUPS), instruction)
    assert isinstance(result, Rejection)
    assert result.reason == reason
    assert detail in result.detail
    assert instruction in result.detail


def test_300_detections_are_one_reject() -> None:
    many = {"cup": [(x, y, x + 2, y + 2) for x in range(0, 60, 3) for y in range(0, 45, 3)]}
    assert len(many["cup"]) == 300
    result = named(WrittenDetector(many), "Make all cups red")
    assert isinstance(result, Rejection)
    assert (result.reason, result.detail.split(",")[0]) == ("too_many_targets", "300 things are meant")


def test_a_part_goes_through_in_few_calls_and_keeps_its_order() -> None:
    texts = ["Make the left cup red", "Mach die Tasse rot", "Brighten the image", "Remove the spoon"] * 10
    rows = [(sample(request(instruction=text, number=n)), grey()) for n, text in enumerate(texts)]
    before = Rejection(key="x", name="x", stage="requests", reason="unreadable", detail="x")
    detector = WrittenDetector(CUPS)
    results = list(name_targets([(before, None), *rows], lambda: detector))
    assert results[0] == before
    assert [row.key for row in results[1:]] == [row.key for row, _ in rows]
    assert [isinstance(row, Rejection) for row in results[1:]] == [False, True, False, False] * 10
    assert len(detector.calls) == -(-(len(rows) + 1) // CHUNK_ROWS)
    assert sum(len(call) for call in detector.calls) == 20


def test_a_detector_holds_few_large_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "CHUNK_BYTES", 3 * grey().nbytes)
    detector = WrittenDetector(CUPS)
    rows = [(sample(request(instruction="Make the left cup red")), grey()) for _ in range(7)]
    assert len(list(name_targets(rows, lambda: detector))) == 7
    assert [len(call) for call in detector.calls] == [3, 3, 1]


def test_a_box_of_nan_names_the_detector() -> None:
    with pytest.raises(BadInput, match=r"^detector written 1: answered a box or a score that is NaN"):
        named(WrittenDetector({"cup": [(0.0, 0.0, float("nan"), 4.0)]}), "Make the cup red")


def test_boxes_of_less_than_a_pixel_have_one() -> None:
    assert whole_pixels((63.9, 63.99, 64.0, 64.0), (SIDE, SIDE)) == (63, 63, 64, 64)
    (target,) = targets_of(
        parse_instruction("Make the cup red").targets[0],
        ["cup"],
        WrittenDetector({"cup": [(5.2, 5.2, 5.9, 5.9)]}).detect([grey()], [["cup"]])[0],
        (SIDE, SIDE),
    )
    assert target.box == (5, 5, 6, 6)
