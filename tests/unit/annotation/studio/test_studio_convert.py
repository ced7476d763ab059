"""Label Studio's JSON: tasks as they are sent, annotations as they come back, and every answer that cannot be used."""

import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation.client import Task, TaskRegion, sent_task
from annotation.studio.annotations import LEVELS, read_annotation
from annotation.studio.brush_rle import decode_brush, encode_brush
from annotation.studio.controls import compare, read_controls
from annotation.studio.interface import labels_config
from annotation.studio.items import Dropped, Unreadable
from annotation.studio.tasks import studio_task
from runtime.masks import MaskBool, rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import CocoRle
from schemas.score import Annotation, Issue
from tests.cases.examples import few_examples
from tests.cases.studio_cases import (
    IMAGE_NAMES,
    SIZE_PX,
    box,
    brush,
    choice,
    item,
    observed,
    received,
    ring,
    sent_case,
    studio_case,
    whole_result,
)

CONTROLS = read_controls(labels_config(), "labels.xml")
PROJECT, RATER = "label-studio-1-abcdef00", "person:0123456789abcdef"


def _read(raw: Any, task: Task) -> Annotation:
    return _read_all(raw, task)[0]


def _read_all(raw: Any, task: Task) -> tuple[Annotation, list[Dropped]]:
    return read_annotation(raw, sent_task(task), "7", PROJECT, CONTROLS, RATER)


def _sent(task: Task) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(studio_task(task, "/s.png", "/e.png", CONTROLS)))
    return found


def test_a_task_carries_its_regions_as_editable_masks() -> None:
    task = studio_case(1, n_regions=2, extras=1)
    sent = _sent(task)
    names = ["1 cup 0", "2 cup 1", "3 cup 2"]
    assert sent["data"] | {"regions": 0, "region_labels": 0, "region_boxes": 0} == {
        "schema": "studio-task/1",
        "candidate": task.candidate,
        "instruction": "make the cups red",
        "source_image": "/s.png",
        "edited_image": "/e.png",
        "regions": 0,
        "region_labels": 0,
        "region_boxes": 0,
    }
    for field in ("region_labels", "region_boxes"):
        assert [label["value"] for label in sent["data"][field]] == names
    assert [(region["region"], region["origin"]) for region in sent["data"]["regions"]] == [
        (region.mask.region, "segmenter") for region in task.regions
    ]
    (prediction,) = sent["predictions"]
    for region, name, found in zip(task.regions, names, prediction["result"], strict=True):
        assert (found["id"], found["value"]["brushlabels"]) == (region.mask.region, [name])
        mask = decode_brush(found["value"]["rle"], found["original_height"], found["original_width"])
        assert np.array_equal(mask, rle_to_mask(region.mask.mask))


@few_examples
@given(st.lists(arrays.arrays(np.bool_, (9, 7)), max_size=4), st.sampled_from(sorted(LEVELS)))
def test_what_is_sent_comes_back_as_it_was(masks: list[MaskBool], level: str) -> None:
    plain = studio_case(2, n_regions=0)
    regions = tuple(
        TaskRegion(label="a\u2028 <b>&amp;", role="change", mask=observed(plain.candidate, f"{index:016x}", mask))
        for index, mask in enumerate(masks)
    )
    task = plain.model_copy(update={"regions": regions, "size_hw": (9, 7)})
    result = _sent(task)["predictions"][0]["result"]
    result += [choice("region_success", level, id_=region.mask.region) for region in regions]
    found = _read(json.loads(json.dumps(received([*result, choice("naturalness", level)]))), task)
    assert [mask.mask for mask in found.masks] == [region.mask.mask for region in regions]
    assert [(mask.region, mask.area_px) for mask in found.masks] == [
        (region.mask.region, region.mask.area_px) for region in regions
    ]
    assert {score.success for score in found.scores.regions} <= {LEVELS[level]}
    assert (found.scores.naturalness, found.scores.artifacts) == (LEVELS[level], None)


def test_a_whole_annotation_is_read_with_all_that_it_says() -> None:
    task = studio_case(3, n_regions=2, extras=1)
    result = whole_result(task, level=4)
    result += [
        choice("region_issues", "spill", "missed", id_="extra-0"),
        item("comment", "textarea", {"text": ["looks odd", "a second line"]}),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
    ]
    found = _read(received(result, prediction={}, unknown="ignored"), task)
    assert (found.id, found.task, found.state) == (f"{PROJECT}/70", "7", "submitted")
    assert (found.scores.candidate, found.scores.rater, found.scores.synthetic) == (task.candidate, RATER, False)
    assert [getattr(found.scores, name) for name in IMAGE_NAMES] == [25] * 5
    assert [(score.region, score.success, score.preserve) for score in found.scores.regions] == [
        (region.mask.region, 25, 25) for region in task.regions
    ]
    assert found.scores.regions[2].issues == ("missed", "spill")
    assert [mask.mask for mask in found.masks] == [region.mask.mask for region in task.regions]
    assert {mask.origin for mask in found.masks} == {"annotator"}
    assert [mask.status for mask in found.masks] == ["changed", "changed", "unplanned"]
    assert (found.comment, found.lead_time_s) == ("looks odd\na second line", 12.5)
    assert (found.created_at, found.updated_at) == (
        "2026-01-02T03:04:05.000001+00:00",
        "2026-01-02T03:05:06.000002+00:00",
    )


def test_the_five_levels_are_the_five_scores() -> None:
    task = studio_case(4)
    levels = [_read(received([choice("success", str(n))]), task).scores.success for n in range(5)]
    assert levels == [0, 6, 13, 19, 25]


def test_what_was_not_answered_is_missing_and_never_filled_in() -> None:
    task = studio_case(5)
    key = task.regions[0].mask.region
    result = [choice("region_success", "2", id_=key), choice("overedit"), choice("artifacts", "0")]
    scores = _read(received(result), task).scores
    assert [getattr(scores, name) for name in IMAGE_NAMES] == [None, None, None, None, 0]
    assert [(score.success, score.preserve) for score in scores.regions] == [(13, None), (None, None)]


def test_masks_that_were_edited_drawn_anew_or_drawn_in_pieces_are_their_regions_and_others_are_new() -> None:
    task, sent = sent_case(6, n_regions=2, extras=1)
    names = [region.name for region in sent.regions]
    left, right = ring(), ring()
    left[:, 16:], right[:, :16] = False, False
    result = [
        brush("random-1", names[1], left),
        brush("random-2", names[1], right),
        brush(task.regions[1].mask.region, names[0], ~ring()),
        brush("random-3", "new region", ring()),
        box("random-4", "new region", 25, 50, 50, 12.5),
        choice("region_preserve", "1", id_="random-2"),
        choice("region_preserve", "1", id_="random-1"),
        choice("region_success", "0", id_="random-4"),
        choice("region_success", "3", id_=task.regions[1].mask.region),
    ]
    found = _read(received(result), task)
    masks = {mask.region: rle_to_mask(mask.mask) for mask in found.masks}
    planned = [region.mask.region for region in task.regions]
    assert list(masks) == [planned[1], planned[0], "extra-1", "extra-2"]
    assert np.array_equal(masks[planned[1]], ring())
    assert np.array_equal(masks[planned[0]], ~ring())
    filled = np.zeros((SIZE_PX, SIZE_PX), dtype=np.bool_)
    filled[16:20, 8:24] = True
    assert np.array_equal(masks["extra-2"], filled)
    scores = {score.region: (score.success, score.preserve) for score in found.scores.regions}
    assert scores == {
        planned[0]: (19, None),
        planned[1]: (None, 6),
        "extra-0": (None, None),
        "extra-1": (None, None),
        "extra-2": (0, None),
    }
    assert [mask.status for mask in found.masks] == ["changed", "changed", "unplanned", "unplanned"]


def test_skipped_and_cannot_judge_are_kept_with_what_was_said() -> None:
    task = studio_case(7)
    result = [choice("cannot_judge", "cannot judge"), choice("success", "1")]
    unable = _read(received(result), task)
    assert (unable.state, unable.scores.success, unable.lead_time_s) == ("cannot_judge", 6, 12.5)
    skipped = _read(received(result, was_cancelled=True, lead_time=None), task)
    assert (skipped.state, skipped.lead_time_s) == ("skipped", None)
    assert _read(received([], was_cancelled=True), task).masks == ()


KEY = studio_case(8).regions[0].mask.region
NAME = "1 cup 0"
NAN = float("nan")
BAD: list[tuple[str, list[dict[str, Any]], str, str]] = [
    ("an unknown control", [choice("nosuch", "1")], "unknown_control", "'nosuch', which nobody asks"),
    ("another type", [item("success", "rating", {"rating": 99})], "wrong_type", "is a rating"),
    ("another object", [choice("success", "1") | {"to_name": "source"}], "wrong_type", "about 'source'"),
    ("an unknown choice", [choice("success", "99")], "bad_value", "'99', which cannot be chosen"),
    ("a rating of 99", [item("success", "choices", {"rating": 99})], "bad_value", "no list of its values"),
    ("two levels", [choice("success", "1", "2")], "bad_value", "cannot be chosen"),
    ("a number for a choice", [item("success", "choices", {"choices": [1]})], "bad_value", "no list"),
    ("an unknown issue", [brush(KEY, NAME, ring()), choice("region_issues", "x", id_=KEY)], "bad_value", "'x'"),
    ("two answers", [choice("success", "1"), choice("success", "2")], "answered_twice", "two different answers"),
    ("no region", [choice("region_success", "1", id_="gone")], "no_region", "'gone', which is not there"),
    ("an unknown label", [brush(KEY, "4 spoon", ring())], "bad_value", "'4 spoon'"),
    ("two labels", [brush(KEY, NAME, ring()) | {"value": {"brushlabels": [NAME, "2 cup 1"]}}], "bad_value", "mask is"),
    ("no label", [brush(KEY, NAME, ring()) | {"value": {"brushlabels": []}}], "bad_value", "mask is"),
    ("x = 140", [box("b", NAME, 140, 0, 10, 10)], "bad_box", "x 140, y 0, width 10, height 10, beyond 0..100 %"),
    ("x < 0", [box("b", NAME, -1, 0, 10, 10)], "bad_box", "x -1"),
    ("too wide", [box("b", NAME, 95, 0, 10, 10)], "bad_box", "width 10"),
    ("no area", [box("b", NAME, 0, 0, 0, 10)], "empty_box", "width 0"),
    ("no number", [box("b", NAME, NAN, 0, 10, 10)], "bad_box", "four numbers"),
    ("text for a number", [box("b", NAME, 0, 0, 10, 10, x="0")], "bad_box", "four numbers"),
    ("a turned box", [box("b", NAME, 0, 0, 10, 10, rotation=30)], "bad_box", "turned"),
    ("a turned image", [brush(KEY, NAME, ring()) | {"image_rotation": 90}], "rotated", "turned by 90"),
    ("a mask of another size", [brush(KEY, NAME, ring(31))], "wrong_size", "31 x 31 px, not 32 x 32"),
    (
        "a mask that says another size than it has",
        [brush(KEY, NAME, ring(31)) | {"original_width": 32, "original_height": 32}],
        "bad_mask",
        "holds 3844 values",
    ),
    ("no size", [brush(KEY, NAME, ring()) | {"original_width": None}], "wrong_size", "None x 32"),
    ("no mask", [brush(KEY, NAME, ring()) | {"value": {"brushlabels": [NAME]}}], "bad_mask", "no list of numbers"),
    ("one id twice", [brush(KEY, NAME, ring()), brush(KEY, NAME, ring())], "doubled_id", "once more"),
    ("a comment of a novel's length", [item("comment", "textarea", {"text": "x" * 10_001})], "long_comment", "10,001"),
    ("a comment of numbers", [item("comment", "textarea", {"text": [1]})], "bad_value", "no text"),
    ("too many regions", [brush(f"b{n}", "new region", ring(32)) for n in range(1001)], "too_many", "first 1000"),
]


@pytest.mark.parametrize(("result", "reason", "detail"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_an_answer_that_cannot_be_used_says_why(result: list[dict[str, Any]], reason: str, detail: str) -> None:
    found, dropped = _read_all(received(result), studio_case(8))
    assert {drop.reason for drop in dropped} == {reason}
    assert detail in dropped[0].detail
    assert found.scores.success is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "malformed"),
        ([], "malformed"),
        ({}, "malformed"),
        (received([], task=8), "other_task"),
        (received([], task="7"), "malformed"),
        (received([]) | {"result": {}}, "malformed"),
        (received([]) | {"result": [{"type": "x"}] * 5_001}, "malformed"),
        (received([], created_at="yesterday"), "malformed"),
        (received([], updated_at=None), "malformed"),
    ],
)
def test_an_annotation_of_another_form_says_so(raw: Any, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        _read(raw, studio_case(8))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("raw", "part", "reason"),
    [
        (received([]) | {"result": [1]}, "result[0]", "malformed"),
        (received([]) | {"result": [{"type": "choices", "from_name": 3}]}, "result[0]", "malformed"),
        *((received([], lead_time=bad), "lead_time", "bad_value") for bad in (-1.0, NAN, "12", True, 10**400)),
    ],
)
def test_a_part_of_another_form_is_left_out(raw: Any, part: str, reason: str) -> None:
    found, dropped = _read_all(raw, studio_case(8))
    assert [(drop.part, drop.reason) for drop in dropped] == [(part, reason)]
    assert found.lead_time_s == (None if part == "lead_time" else 12.5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["value", "id", "type", "from_name", "to_name", "original_width", "image_rotation"]))
def test_nothing_in_a_result_does_anything_but_give_an_annotation_or_a_reason(junk: Any, name: str) -> None:
    task = studio_case(8)
    for spoilt in (brush(KEY, NAME, ring()), choice("success", "1"), box("b", NAME, 1, 1, 9, 9)):
        try:
            assert _read(received([spoilt | {name: junk}]), task).task == "7"
        except Unreadable as fault:
            assert str(fault)  # noqa: PT017


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"size_hw": None}, "does not say how large its image is"),
        ({"size_hw": (31, 32)}, "has a mask of [32, 32]"),
        ({"candidate": "f" * 16}, "has the mask of another candidate"),
        ({"regions": (studio_case(9).regions[0],) * 2}, "has a region twice"),
    ],
)
def test_a_task_that_does_not_fit_is_not_sent(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadInput) as caught:
        studio_task(studio_case(9).model_copy(update=changes), "/s", "/e", CONTROLS)
    assert fault in caught.value.fault


def test_a_mask_that_does_not_fill_its_image_is_not_sent() -> None:
    task = studio_case(9)
    region = task.regions[0]
    broken = region.mask.model_copy(update={"mask": CocoRle(size=(32, 32), counts="1")})
    task = task.model_copy(update={"regions": (region.model_copy(update={"mask": broken}),)})
    with pytest.raises(BadInput, match=rf"^task of candidate {task.candidate}, region {broken.region}: RLE does not"):
        studio_task(task, "/s", "/e", CONTROLS)


def test_a_prediction_that_the_interface_does_not_know_is_not_sent() -> None:
    controls = {name: control for name, control in CONTROLS.items() if name != "mask"}
    with pytest.raises(BadInput, match="control 'mask', which nobody asks"):
        studio_task(studio_case(9), "/s", "/e", controls)


def test_the_interface_asks_for_every_score_and_issue_of_the_records() -> None:
    levels = frozenset("01234")
    for name in ("region_success", "region_preserve", *IMAGE_NAMES):
        assert CONTROLS[name].values == levels, name
        assert (CONTROLS[name].single, CONTROLS[name].per_region) == (True, name.startswith("region_")), name
    assert CONTROLS["region_issues"].values == frozenset(get_args(Issue))
    assert (CONTROLS["mask"].names, CONTROLS["box"].names) == ("$region_labels", "$region_boxes")
    assert {control.to for control in CONTROLS.values()} == {"edited"}


CHANGES = [
    ('name="comment"', 'name="remark"', ["comment is missing", "remark is not ours"]),
    ('name="success" toName="edited"', 'name="success" toName="source"', ["success is about source"]),
    (
        'value="cannot judge" hotkey',
        'value="no idea" hotkey',
        ["cannot_judge has other values (cannot judge, no idea)"],
    ),
    (
        'name="region_success" toName="edited" perRegion="true"',
        'name="region_success" toName="edited"',
        ["another way"],
    ),
    ('name="mask" toName="edited" value="$region_labels"', 'name="mask" toName="edited"', ["mask is asked in"]),
    ('<TextArea name="comment"', '<Number name="comment"', ["comment is of type number, not textarea"]),
]


@pytest.mark.parametrize(("old", "new", "fault"), CHANGES)
def test_a_changed_interface_is_told_by_name(old: str, new: str, fault: list[str]) -> None:
    config = labels_config()
    assert old in config
    said = compare(read_controls(config.replace(old, new), "project 1"), CONTROLS)
    assert len(said) == len(fault)
    assert all(part in phrase for part, phrase in zip(fault, said, strict=True))
    assert compare(read_controls(config.replace("Comment, if any", "Words"), "project 1"), CONTROLS) == []


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("", "is no XML"),
        ("<View>", "is no XML"),
        ("<View/>" + " " * 1_000_001, "characters"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "declares entities"),
        ('<View><Choices name="a" toName="e"/><Choices name="a" toName="e"/></View>', "two controls named 'a'"),
    ],
)
def test_an_interface_that_cannot_be_read_is_one_line(config: str, fault: str) -> None:
    with pytest.raises(BadInput, match=fault) as caught:
        read_controls(config, "project 1")
    assert caught.value.thing == "project 1"


def test_an_alpha_below_a_half_is_outside() -> None:
    task = studio_case(8)
    soft = brush(KEY, NAME, ring())
    soft["value"]["rle"] = [number if number != 255 else 255 for number in encode_brush(np.zeros((32, 32), np.bool_))]
    (mask,) = _read(received([soft]), task).masks
    assert (mask.area_px, mask.box, mask.region) == (0, None, KEY)
