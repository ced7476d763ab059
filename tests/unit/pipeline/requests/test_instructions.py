"""Instructions from templates: natural sentences that name every target and never change."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.requests.instructions import CLAUSES, instruction_for
from pipeline.requests.scenes import render_scene, scene_request
from schemas.geometry import Box
from schemas.request import Operation, Reference, RequestLine, Target

LABELS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30).filter(lambda t: t.strip())


def target(operation: Operation, label: str = "red star", **fields: object) -> Target:
    role = {"remove": "remove", "insert": "add"}.get(operation, "change")
    return Target.model_validate({"label": label, "role": role, "operation": operation, **fields})


def wordings(operation: Operation, **fields: object) -> set[str]:
    """All that is said for an operation, over boxes that only serve to draw another wording."""
    return {instruction_for([target(operation, box=(n, 0, n + 9, 9), **fields)]) for n in range(60)}


def test_the_same_targets_give_the_same_words() -> None:
    targets = [target("recolour", parameters={"color": "blue"}), target("remove", "green disc")]
    assert instruction_for(targets) == instruction_for(tuple(targets))
    assert instruction_for(targets) != instruction_for(targets[::-1])


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_instructions_name_every_label_and_read_as_sentences(count: int) -> None:
    for index in range(count):
        request = scene_request(render_scene(55, index, 32))
        text = request.instruction
        assert all(t.label in text for t in request.targets)
        assert re.fullmatch(r"[A-Z].*\.", text)
        assert not re.search(r"  |\{|\}|None|\bthe the\b|\ba [aeio]|,,|\.\.| \.", text), text


@pytest.mark.parametrize("operation", ["recolour", "remove", "replace", "insert", "texture", "blur", "move", "text"])
def test_each_operation_is_said_in_several_ways(operation: Operation) -> None:
    said = wordings(operation, parameters={"color": "blue", "shape": "ring", "texture": "dots", "text": "HI"})
    assert len(said) >= len(CLAUSES[operation])


@pytest.mark.parametrize(("name", "clauses"), CLAUSES.items())
def test_each_clause_has_a_place_for_the_thing(name: str, clauses: tuple[str, ...]) -> None:
    assert len(set(clauses)) == len(clauses)
    assert all("{a}" in clause if name == "insert" else "{the}" in clause for clause in clauses)


def test_parameters_are_said() -> None:
    assert all("blue" in text for text in wordings("recolour", parameters={"color": "blue"}))
    assert all("an orange heart" in t for t in wordings("replace", parameters={"shape": "heart", "color": "orange"}))
    assert all("checkerboard" in text for text in wordings("texture", parameters={"texture": "checker"}))
    assert all(
        '"HI"' in text and "in white" in text for text in wordings("text", parameters={"text": "HI", "color": "white"})
    )


def test_light_goes_up_or_down_as_the_gain_says() -> None:
    assert all(re.search("[Bb]right|[Ll]ight", text) for text in wordings("relight", parameters={"gain": 1.6}))
    assert all(re.search("[Dd]ark|[Ss]hade|[Dd]im", text) for text in wordings("relight", parameters={"gain": 0.5}))


def test_size_goes_up_or_down_as_the_destination_says() -> None:
    assert all(re.search("big|[Ee]nlarge|up", text) for text in wordings("resize", destination=(0, 0, 20, 20)))
    assert all(re.search("small|[Ss]hrink|down", text) for text in wordings("resize", destination=(0, 0, 4, 4)))


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ((60, 40, 70, 50), "to the right."),
        ((0, 40, 10, 50), "to the left."),
        ((40, 0, 50, 10), "up."),
        ((40, 80, 50, 90), "down."),
        ((0, 0, 10, 10), "up and to the left."),
        ((80, 80, 90, 90), "down and to the right."),
    ],
)
def test_a_move_says_its_direction(destination: Box, words: str) -> None:
    assert instruction_for([target("move", box=(40, 40, 50, 50), destination=destination)]).endswith(words)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 20, 20), "in the upper left."),
        ((80, 80, 100, 100), "in the lower right."),
        ((80, 40, 100, 60), "on the right."),
        ((40, 0, 60, 20), "at the top."),
        ((40, 40, 60, 60), "in the middle."),
    ],
)
def test_an_addition_says_its_place_where_the_size_is_known(box: Box, words: str) -> None:
    assert instruction_for([target("insert", "yellow heart", box=box)], (100, 100)).endswith(f"a yellow heart {words}")
    assert instruction_for([target("insert", "yellow heart", box=box)]).endswith("a yellow heart.")


def test_articles_fit_the_label() -> None:
    assert "an orange ring" in instruction_for([target("insert", "orange ring")])
    assert "the the" not in instruction_for([target("remove", "the left eye")])


def test_a_reference_names_its_image() -> None:
    added = target("insert", "flower", reference=Reference(source=1))
    assert "a flower from image 2" in instruction_for([added])


def test_no_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one target"):
        instruction_for([])


@given(labels=st.lists(LABELS, min_size=1, max_size=5))
def test_any_label_stands_as_it_is(labels: list[str]) -> None:
    text = instruction_for([target("remove", label) for label in labels])
    assert all(label in text for label in labels)
    RequestLine(id="r", sources=("a.png",), instruction=text)


def test_every_wording_says_the_same_in_its_own_words() -> None:
    targets = [target("recolour", parameters={"color": "blue"}), target("remove", "green disc")]
    said = {instruction_for(targets, wording=n) for n in range(20)}
    assert len(said) > 10
    assert all("red star" in text and "blue" in text and "green disc" in text for text in said)
    assert instruction_for(targets, wording=3) == instruction_for(targets, wording=3)
