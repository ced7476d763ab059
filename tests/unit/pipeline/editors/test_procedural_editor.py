"""The procedural editor: the same arguments give the same pixels, K candidates differ, what was done is recorded."""

import numpy as np
import pytest

from pipeline.editors import procedural
from pipeline.editors.operations import mean_lab, to_lab
from pipeline.editors.plan import grown
from pipeline.editors.procedural import LEVELS, ProceduralEditor, quality_level
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import colour_distance, colour_lab
from schemas.candidate import Defect
from schemas.errors import BadInput
from schemas.region import region_id
from schemas.request import Reference
from tests.cases.editor_cases import (
    BLOCK,
    DISC,
    block,
    block_target,
    disc,
    disc_target,
    picture,
    request_of,
    scene_request_of,
)

BLUE_DISC = disc_target(parameters={"color": "blue"})
STRIPED_BLOCK = block_target(parameters={"texture": "stripes"})


def change(first, second):
    return np.linalg.norm(to_lab(first) - to_lab(second), axis=-1)


def test_the_same_arguments_give_the_same_bytes_in_any_editor_and_order():
    request, image = scene_request_of(2)
    first = [ProceduralEditor().edit(request, [image], index, 5 + index) for index in range(4)]
    editor = ProceduralEditor()
    again = [editor.edit(request, [image], index, 5 + index) for index in reversed(range(4))][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.defects, one.edits, one.parameters) == (other.defects, other.edits, other.parameters)


@pytest.mark.parametrize(("canvases", "kept"), [(0.5, 1), (1.5, 1), (2.5, 2), (99, 4)])
def test_few_plans_of_large_canvases_are_kept(monkeypatch, canvases, kept):
    image = picture()
    monkeypatch.setattr(procedural, "_PLANS_PIXELS", int(canvases * image[..., 0].size))
    editor = ProceduralEditor()
    request = request_of((BLUE_DISC,), [image])
    requests = [request.model_copy(update={"id": f"{number:016x}"}) for number in range(6)]
    for request in requests:
        editor.plan(request, [image])
    assert [key for key, _ in editor._plans] == [request.id for request in requests[-kept:]]


def test_candidates_of_a_request_differ_in_quality():
    for index in range(3):
        request, image = scene_request_of(index)
        edits = [ProceduralEditor().edit(request, [image], i, i) for i in range(4)]
        assert len({edit.image.tobytes() for edit in edits}) == 4
        clean = [i for i, edit in enumerate(edits) if not edit.defects]
        assert clean == [i for i in range(4) if quality_level(request.id, i) == 0]
        assert max(len(edit.defects) for edit in edits) <= 3


def test_which_candidate_is_clean_differs_from_request_to_request():
    orders = {tuple(quality_level(f"{number:016x}", i) for i in range(4)) for number in range(40)}
    assert all(sorted(order) == list(range(len(LEVELS))) for order in orders)
    assert {order.index(0) for order in orders} == {0, 1, 2, 3}


def test_the_wanted_image_is_the_clean_candidate_whatever_the_seed():
    request, image = scene_request_of(4)
    editor = ProceduralEditor()
    clean = next(i for i in range(4) if quality_level(request.id, i) == 0)
    wanted = editor.wanted(request, [image], 1)
    assert np.array_equal(wanted, editor.edit(request, [image], clean, 9).image)
    assert np.array_equal(wanted, ProceduralEditor().wanted(request, [image], 2))
    assert np.array_equal(wanted, editor.render(request, [image], 3, []).image)


def test_every_region_is_edited_and_the_rest_is_the_source():
    request = request_of((BLUE_DISC, STRIPED_BLOCK), [picture()])
    editor = ProceduralEditor()
    wanted, masks = editor.wanted(request, [picture()]), editor.region_masks(request, [picture()])
    assert list(masks) == [region_id(request.id, 0), region_id(request.id, 1)]
    assert all(change(wanted, picture())[mask].mean() > 8 for mask in masks.values())
    outside = ~(grown(disc(), 2) | grown(block(), 2))
    assert np.array_equal(wanted[outside], picture()[outside])


def test_defects_asked_for_are_put_in_and_recorded():
    request = request_of((BLUE_DISC, STRIPED_BLOCK), [picture()])
    defects = (Defect(kind="missed", target=1, strength=1.0), Defect(kind="noise", target=None, strength=0.5))
    edit = ProceduralEditor().render(request, [picture()], 0, defects)
    assert edit.defects == defects
    assert change(edit.image, picture())[block()].max() < 2
    assert colour_distance(mean_lab(edit.image, disc()), colour_lab("blue")) < 14
    other = ProceduralEditor().render(request, [picture()], 0, defects[:1])
    assert other.parameters != edit.parameters


def test_a_kind_left_out_is_never_drawn():
    editor = ProceduralEditor(leave_out=("warp", "noise"))
    kinds = set()
    for index in range(6):
        request, image = scene_request_of(index, 64)
        kinds |= {d.kind for i in range(4) for d in editor.edit(request, [image], i, i).defects}
    assert kinds
    assert not kinds & {"warp", "noise"}
    assert editor.revision != ProceduralEditor().revision
    with pytest.raises(BadInput, match="wobble"):
        ProceduralEditor(leave_out=("wobble",))


def test_with_every_kind_left_out_all_candidates_are_clean():
    request, image = scene_request_of(1, 64)
    editor = ProceduralEditor(leave_out=ProceduralEditor().kinds)
    assert not any(editor.edit(request, [image], i, i).defects for i in range(4))


@pytest.mark.parametrize("operation", ["blur", "relight"])
def test_an_amount_that_a_request_leaves_open_is_chosen_visibly_and_recorded(operation):
    request = request_of((block_target(operation),), [picture()])
    edit = ProceduralEditor().render(request, [picture()], 0, [])
    assert edit.edits[0].operation == operation
    assert edit.edits[0].parameters
    assert change(edit.image, picture())[block()].mean() > 5


@pytest.mark.parametrize(
    ("operation", "parameters", "reason"),
    [
        ("recolour", {}, "missing_parameter"),
        ("recolour", {"colour": "green"}, "bad_parameter"),
        ("replace", {"shape": "star"}, "missing_parameter"),
        ("texture", {}, "missing_parameter"),
        ("text", {"text": "\u00c4"}, "bad_parameter"),
        ("text", {}, "missing_parameter"),
        ("remove", {"color": "red"}, "bad_parameter"),
        ("other", {}, "unknown_operation"),
    ],
)
def test_what_a_request_does_not_say_is_never_guessed(operation, parameters, reason):
    request = request_of((block_target(operation, parameters=parameters),), [picture()])
    with pytest.raises(CannotEdit) as caught:
        ProceduralEditor().edit(request, [picture()], 0, 0)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("label", "is_whole"), [("the whole image", True), ("everything", True), ("the rocket", False)]
)
def test_only_a_label_that_means_the_image_may_go_without_a_box(label, is_whole):
    target = block_target("relight", label=label, box=None, mask=None, parameters={"gain": 1.6})
    request = request_of((target,), [picture()])
    if is_whole:
        assert change(ProceduralEditor().wanted(request, [picture()]), picture()).mean() > 5
        return
    with pytest.raises(CannotEdit, match="neither box nor mask"):
        ProceduralEditor().wanted(request, [picture()])


def test_a_role_alone_says_the_operation():
    request = request_of((disc_target("other", role="remove"),), [picture()])
    assert ProceduralEditor().edit(request, [picture()], 0, 0).edits[0].operation == "remove"


def test_turns_are_carried_out_in_order():
    blue, green = (disc_target(parameters={"color": c}, turn=t) for c, t in (("blue", 1), ("green", 0)))
    request = request_of((blue, green), [picture()], "multi_turn", ("first", "second"))
    wanted = ProceduralEditor().wanted(request, [picture()])
    assert colour_distance(mean_lab(wanted, disc()), colour_lab("blue")) < 14


def test_a_composition_takes_the_thing_from_the_other_source():
    canvas, other = np.full((96, 96, 3), 90, dtype=np.uint8), picture()
    target = disc_target("insert", role="add", mask=None, reference=Reference(source=1, box=DISC))
    request = request_of((target,), [canvas, other], "composition")
    edit = ProceduralEditor().render(request, [canvas, other], 0, [])
    core = np.s_[26:38, 24:36]
    assert change(edit.image, other)[core].mean() < 8
    assert edit.image.shape == canvas.shape
    with pytest.raises(CannotEdit) as alone:
        ProceduralEditor().wanted(request, [canvas])
    assert alone.value.reason == "no_source"


def test_a_target_without_a_box_is_the_whole_image_where_that_makes_sense():
    whole = disc_target("relight", box=None, mask=None, label="the whole image", parameters={"gain": 0.5})
    wanted = ProceduralEditor().wanted(request_of((whole,), [picture()]), [picture()])
    assert np.abs(wanted.astype(float) - picture() * 0.5).max() <= 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (disc_target("remove", box=None, mask=None, label="the whole image"), "no_target_box"),
        (disc_target(mask=None, box=(200, 200, 220, 220)), "bad_target_box"),
        (disc_target("move"), "no_destination"),
        (disc_target(parameters={"color": "mauve"}), "bad_parameter"),
        (disc_target("blur", parameters={"sigma_px": "much"}), "bad_parameter"),
        (disc_target("relight", parameters={"gain": 1e9}), "bad_parameter"),
        (disc_target("text", parameters={"text": "  "}), "missing_parameter"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_a_reason(target, reason):
    with pytest.raises(CannotEdit) as caught:
        ProceduralEditor().edit(request_of((target,), [picture()]), [picture()], 0, 0)
    assert caught.value.reason == reason


def test_a_request_without_targets_is_refused():
    with pytest.raises(CannotEdit) as caught:
        ProceduralEditor().edit(request_of((), [picture()]), [picture()], 0, 0)
    assert caught.value.reason == "no_target"


def test_two_images_of_one_request_id_are_not_mixed_up():
    editor, request = ProceduralEditor(), request_of((block_target(parameters={"texture": "dots"}),), [picture()])
    first = editor.wanted(request, [picture()])
    second = editor.wanted(request, [255 - picture()])
    assert not np.array_equal(first, second)
    assert BLOCK == request.targets[0].box
