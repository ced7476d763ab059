"""Which of a detector's answers an instruction means, and where something to be added goes."""

import pytest

from pipeline.models.protocols import Detection
from pipeline.requests.instructions import parse_instruction
from pipeline.requests.instructions.choose import BoxF, CannotChoose, Choice, choose, iou, phrases_for, place_for

SIZE = (300, 200)
#: Three cups from left to right, the last the largest, the middle one found best.
CUPS: list[BoxF] = [(10, 50, 50, 90), (120, 100, 160, 140), (220, 20, 290, 100)]


def found(phrase: int, boxes: list[BoxF], scores: tuple[float, ...] = (0.5, 0.9, 0.7)) -> list[Detection]:
    return [Detection(box, score, phrase) for box, score in zip(boxes, scores, strict=False)]


def meant(instruction: str, things: dict[str, list[BoxF]], target: int = 0) -> list[BoxF]:
    return [thing.box for thing in chosen(instruction, things, target).things]


def chosen(instruction: str, things: dict[str, list[BoxF]], target: int = 0) -> Choice:
    parsed = parse_instruction(instruction)
    phrases = phrases_for(parsed)
    assert set(things) <= set(phrases), phrases
    detections = [d for phrase, boxes in things.items() for d in found(phrases.index(phrase), boxes)]
    return choose(parsed.targets[target], phrases, detections, SIZE)


@pytest.mark.parametrize(
    ("instruction", "numbers"),
    [
        ("make the left cup red", [0]),
        ("make the cup on the right red", [2]),
        ("make the second cup from the left red", [1]),
        ("make the second cup from the right red", [1]),
        ("make the third cup red", [2]),
        ("make the last cup red", [2]),
        ("make the cup red", [1]),
        ("make the biggest cup red", [2]),
        ("make the top cup red", [2]),
        ("make the bottom left cup red", [0]),
        ("make the closest cup red", [1]),
        ("make the middle cup red", [1]),
        ("make all the cups red", [1, 2, 0]),
        ("make the cups on the left red", [0, 1]),
        ("make the two cups on the right red", [2, 1]),
        ("make all the cups except the left one red", [1, 2]),
    ],
)
def test_position_rank_and_count_choose(instruction: str, numbers: list[int]) -> None:
    assert meant(instruction, {"cup": CUPS}) == [CUPS[number] for number in numbers]


def test_an_except_phrase_has_detections_of_its_own() -> None:
    near: list[BoxF] = [(12, 52, 52, 92)]
    choice = chosen("make all cups blue except the red one", {"cup": CUPS, "red cup": near})
    assert [thing.box for thing in choice.things] == [CUPS[1], CUPS[2]]
    assert [thing.box for thing in choice.left_out] == near


def test_what_belongs_to_a_thing_is_looked_for_in_it() -> None:
    handles: list[BoxF] = [(215, 40, 230, 60), (45, 60, 55, 80)]
    instruction = "paint the left cup red and remove its handle"
    assert meant(instruction, {"cup": CUPS, "handle": handles}, 1) == [handles[1]]


def test_a_thing_found_twice_counts_once() -> None:
    doubled = [CUPS[0], (11.0, 50.0, 50.0, 90.0), CUPS[1]]
    assert meant("make the second cup from the left red", {"cup": doubled}) == [CUPS[1]]


def test_everything_but_a_thing_is_the_image_less_the_thing() -> None:
    choice = chosen("blur everything except the dog", {"dog": [CUPS[0]]})
    assert choice.whole
    assert [thing.box for thing in choice.left_out] == [CUPS[0]]
    assert chosen("brighten the photo", {}).whole


@pytest.mark.parametrize(
    ("instruction", "things", "reason"),
    [
        ("make the cup red", {}, "no_detection"),
        ("make the fifth cup red", {"cup": CUPS}, "too_few"),
        ("remove the four cups", {"cup": CUPS}, "too_few"),
        ("remove all cups except the red one", {"cup": CUPS}, "except_not_found"),
        ("remove all cups except the mug", {"cup": CUPS[:1], "mug": CUPS[:1]}, "nothing_left"),
        ("remove the logo from the shirt", {"logo": CUPS}, "owner_not_found"),
        ("remove the logo from the shirt", {"logo": CUPS[:1], "shirt": CUPS[2:]}, "no_detection"),
        ("remove the cups on the left", {"cup": CUPS[2:]}, "too_few"),
    ],
)
def test_what_does_not_fit_says_why(instruction: str, things: dict[str, list[BoxF]], reason: str) -> None:
    with pytest.raises(CannotChoose) as fault:
        meant(instruction, things)
    assert fault.value.reason == reason


def test_a_detector_is_asked_each_phrase_once() -> None:
    parsed = parse_instruction("make all cups blue except the red one, remove the left cup and add a hat on the dog")
    assert phrases_for(parsed) == ("cup", "red cup", "dog")


@pytest.mark.parametrize(
    ("instruction", "box"),
    [
        ("add a hat on the dog", (106, 86, 134, 114)),
        ("add a ball to the left of the dog", (58, 100, 98, 140)),
        ("add a ball above the dog", (100, 56, 140, 96)),
        ("add a sun in the upper left corner", (0, 0, 100, 200 / 3)),
        ("add a ball at the bottom", (100, 400 / 3, 200, 200)),
        ("add a ball", (100, 200 / 3, 200, 400 / 3)),
    ],
)
def test_something_to_be_added_has_its_box(instruction: str, box: BoxF) -> None:
    parsed = parse_instruction(instruction)
    dog = [Detection((100, 100, 140, 140), 0.9, 0)]
    assert place_for(parsed.targets[0], phrases_for(parsed), dog, SIZE) == pytest.approx(box)


def test_a_place_stays_inside_the_image() -> None:
    parsed = parse_instruction("add a ball to the left of the dog")
    x1, y1, x2, y2 = place_for(parsed.targets[0], ("dog",), [Detection((0, 150, 60, 200), 0.9, 0)], SIZE)
    assert 0 <= x1 < x2 <= 300
    assert 0 <= y1 < y2 <= 200
    with pytest.raises(CannotChoose, match="dog"):
        place_for(parsed.targets[0], ("dog",), [], SIZE)
    with pytest.raises(ValueError, match="place_for"):
        choose(parsed.targets[0], ("dog",), [], SIZE)


def test_overlap_is_counted_right() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
