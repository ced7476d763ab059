"""One bad item of an annotation costs itself: what else was said is kept as it is, and the item with its reason."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.exchange import collect, send
from annotation.store import MAX_SEQ, AnnotationStore, open_store, store_path
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config
from schemas.score import Annotation
from tests.cases.studio_cases import box, brush, choice, item, received, ring, studio_case, whole_result
from tests.cases.studio_server import TOKEN, StudioServer

#: Item number 5 is the mask of region 0, number 8 that of region 1; each is followed by its two answers.
MASK, OTHER_MASK = 5, 8
Result = list[dict[str, Any]]
Bend = Callable[[Result], None]


def _set(place: int, **fields: Any) -> Bend:
    return lambda result: result[place].update(fields)


def _value(place: int, **fields: Any) -> Bend:
    return lambda result: result[place]["value"].update(fields)


def _without(place: int, name: str) -> Bend:
    def bend(result: Result) -> None:
        result[place]["value"].pop(name, None)
        result[place].pop(name, None)

    return bend


def _more(*items: dict[str, Any]) -> Bend:
    return lambda result: result.extend(items)


def _box(*numbers: float, **fields: Any) -> dict[str, Any]:
    return box("box", "new region", *numbers, **fields)


TALL = {"text": "x" * 10_001}
#: Bends of one item: the reason that it is left out with, and whether the mask of region 0 goes with it.
DROPPED: dict[str, tuple[Bend, list[str], bool]] = {
    "a brush without RLE": (_without(MASK, "rle"), ["bad_mask"], True),
    "a brush with half an RLE": (_value(MASK, rle=[0, 0, 16]), ["bad_mask"], True),
    "a width off by one": (_set(MASK, original_width=33), ["wrong_size"], True),
    "no width": (_without(MASK, "original_width"), ["wrong_size"], True),
    "a turned image": (_set(MASK, image_rotation=90), ["rotated"], True),
    "an RLE that is text": (_value(MASK, rle="AAAA"), ["bad_mask"], True),
    "a width of 32.5": (_set(MASK, original_width=32.5), ["wrong_size"], True),
    "a brush without label": (_without(MASK, "brushlabels"), ["bad_value"], True),
    "a brush with an unknown label": (_value(MASK, brushlabels=["9 spoon"]), ["bad_value"], True),
    "a zero-width box": (_more(_box(10, 10, 0, 10)), ["empty_box"], False),
    "a box of no number": (_more(_box(10, 10, float("nan"), 10)), ["bad_box"], False),
    "a box far over the edge": (_more(_box(95, 10, 10, 10)), ["bad_box"], False),
    "a turned box": (_more(_box(10, 10, 10, 10, rotation=30)), ["bad_box"], False),
    "an accidental click on a region": (_more(box("b", "1 cup 0", 10, 10, 0, 0)), ["empty_box"], False),
    "an item twice": (lambda result: result.append(result[MASK]), ["doubled_id"], False),
    "an answer off the scale": (_more(choice("background", "99", id_="x")), ["bad_value"], False),
    "an unknown control": (_more(choice("nosuch", "1")), ["unknown_control"], False),
    "a number of no end": (_more(_box(10, 10, 10**400, 10)), ["bad_box"], False),
    "another type": (_more(item("success", "rating", {"rating": 3})), ["wrong_type"], False),
    "an answer about no region": (_more(choice("region_success", "1", id_="gone")), ["no_region"], False),
    "a number for an item": (lambda result: result.append(7), ["malformed"], False),  # type: ignore[arg-type]
    "a comment of numbers": (_more(item("comment", "textarea", {"text": [1]})), ["bad_value"], False),
    "a comment of half a letter": (_more(item("comment", "textarea", {"text": ["\ud800"]})), ["bad_value"], False),
    "an answer that says it is a relation": (
        _more(choice("nosuch", "1") | {"type": "relation"}),
        ["unknown_control"],
        False,
    ),
    "a comment of a novel's length": (_more(item("comment", "textarea", TALL)), ["long_comment"], False),
}
KEPT: dict[str, Bend] = {
    "a width of 32.0": _set(MASK, original_width=32.0),
    "an id of another region": _set(MASK, id=whole_result(studio_case(1))[OTHER_MASK]["id"]),
    "an id that is none": _set(MASK, id=7),
    "no id": _set(OTHER_MASK, id=None),
    "a rotation of a choice's image": _set(0, image_rotation=90),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with open_store(store_path(tmp_path), create=True) as found:
        yield found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StudioServer]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with StudioServer() as running:
        yield running


def _sent(server: StudioServer, store: AnnotationStore, n_tasks: int) -> tuple[StudioClient, list[str]]:
    """The client, and the keys of as many tasks that are alike."""
    settings = StudioSettings(url=server.url, project=1, overlap_s=0.0)
    client = open_studio(settings, store, labels_config(), lambda image: "/x.png")
    tasks = []
    for n in range(n_tasks):
        key = f"{n:016x}"
        regions = tuple(
            region.model_copy(update={"mask": region.mask.model_copy(update={"candidate": key})})
            for region in studio_case(1).regions
        )
        tasks.append(studio_case(1).model_copy(update={"candidate": key, "regions": regions}))
    send(client, store, tasks)
    return client, [task.candidate for task in tasks]


def _collected(
    server: StudioServer, store: AnnotationStore, bends: list[Bend]
) -> tuple[StudioClient, list[Annotation]]:
    """What is kept of an annotation after each bend, as of one task; the first is not bent."""
    client, keys = _sent(server, store, len(bends) + 1)
    for number, bend in enumerate([lambda result: None, *bends], 1):
        result = json.loads(json.dumps(whole_result(studio_case(1))))
        bend(result)
        server.annotate(number, received(result, id=number))
    collect(client, store)
    found = [store.annotations(key, MAX_SEQ) for key in keys]
    assert [len(versions) for versions in found] == [1] * len(keys)
    return client, [_of_one_task(versions[0]) for versions in found]


def _of_one_task(found: Annotation) -> Annotation:
    masks = tuple(mask.model_copy(update={"candidate": "0" * 16}) for mask in found.masks)
    scores = found.scores.model_copy(update={"candidate": "0" * 16})
    same = {"id": "x", "task": "x", "updated_at": "", "created_at": "", "scores": scores, "masks": masks}
    return found.model_copy(update=same)


def test_one_bad_item_is_left_out_with_its_reason_and_the_rest_stays(
    server: StudioServer, store: AnnotationStore
) -> None:
    client, (whole, *found) = _collected(server, store, [bend for bend, _, _ in DROPPED.values()])
    for (name, (_, _, mask_goes)), one in zip(DROPPED.items(), found, strict=True):
        masks = whole.masks[1:] if mask_goes else whole.masks
        assert one == whole.model_copy(update={"masks": masks}), name
    reasons = [
        [drop.reason for drop in store.dropped(client.project) if drop.annotation == str(number)]
        for number in range(2, len(DROPPED) + 2)
    ]
    assert dict(zip(DROPPED, reasons, strict=True)) == {name: wanted for name, (_, wanted, _) in DROPPED.items()}
    assert store.rejects(client.project) == []


def test_what_says_the_same_in_other_words_is_taken_as_it_is(server: StudioServer, store: AnnotationStore) -> None:
    client, (whole, *found) = _collected(server, store, list(KEPT.values()))
    for name, one in zip(KEPT, found, strict=True):
        scores = {score.region: score for score in one.scores.regions}
        assert {mask.region: mask for mask in one.masks} == {mask.region: mask for mask in whole.masks}, name
        assert scores == {score.region: score for score in whole.scores.regions}, name
    assert store.dropped(client.project) == []


@pytest.mark.parametrize(("numbers", "wanted"), [
    ((90.01, 0, 10, 50), [29, 0, 32, 16]), ((-0.01, 0, 50, 50), [0, 0, 16, 16]), ((0, 90, 50, 10.02), [0, 29, 16, 32]),
])  # fmt: skip
def test_a_box_a_little_over_the_edge_is_cut_there(
    server: StudioServer, store: AnnotationStore, numbers: tuple[float, ...], wanted: list[int]
) -> None:
    _, (_, found) = _collected(server, store, [_more(_box(*numbers))])
    assert found.masks[2].box is not None
    assert list(found.masks[2].box) == wanted
    assert found.masks[2].region == "extra-0"


def test_a_mask_without_one_of_its_pieces_is_no_mask(server: StudioServer, store: AnnotationStore) -> None:
    bad = brush("piece", "1 cup 0", ring()) | {"original_width": 31}
    client, (whole, found) = _collected(server, store, [_more(bad)])
    assert found == whole.model_copy(update={"masks": whole.masks[1:]})
    assert [drop.reason for drop in store.dropped(client.project)] == ["wrong_size", "piece_missing"]


def test_answers_about_a_new_region_that_nobody_can_see_go_with_it_and_other_new_ones_keep_their_number(
    server: StudioServer, store: AnnotationStore
) -> None:
    unseen = [brush("u", "new region", ring()) | {"original_width": 31}, choice("region_success", "1", id_="u")]
    seen = [brush("s", "new region", ring()), choice("region_success", "2", id_="s")]
    client, (_, found) = _collected(server, store, [_more(*unseen, *seen)])
    assert [(score.region, score.success) for score in found.scores.regions][2:] == [("extra-1", 13)]
    assert [mask.region for mask in found.masks][2:] == ["extra-1"]
    assert [drop.reason for drop in store.dropped(client.project)] == ["wrong_size", "no_region"]


def test_new_regions_keep_their_number_beside_one_whose_label_cannot_be_read(
    server: StudioServer, store: AnnotationStore
) -> None:
    bad = [brush("u", "new region", ring()) | {"value": {}}, brush("v", "new region", ring()) | {"to_name": 7}]
    planned, new = whole_result(studio_case(1))[MASK], brush("n", "new region", ~ring())
    more = [*bad, planned | {"value": {}}, new, new, brush("s", "new region", ring())]
    client, (_, found) = _collected(server, store, [_more(*more)])
    assert [mask.region for mask in found.masks][2:] == ["extra-2", "extra-3"]
    assert {drop.reason for drop in store.dropped(client.project)} == {"bad_value", "malformed", "doubled_id"}


def test_words_that_came_twice_are_said_once(server: StudioServer, store: AnnotationStore) -> None:
    words = item("comment", "textarea", {"text": ["odd"]})
    client, (_, found) = _collected(server, store, [_more(words, words)])
    assert found.comment == "odd"
    assert [drop.reason for drop in store.dropped(client.project)] == ["doubled_id"]


def test_an_id_that_two_regions_have_says_nothing_of_either(server: StudioServer, store: AnnotationStore) -> None:
    items = [brush("d", "new region", ring()), brush("d", "new region", ~ring())]
    client, (_, found) = _collected(server, store, [_more(*items, choice("region_success", "2", id_="d"))])
    scores = {score.region: score.success for score in found.scores.regions[2:]}
    assert scores == {"extra-0": None, "extra-1": None}
    assert [drop.reason for drop in store.dropped(client.project)] == ["no_region"]


def test_two_different_answers_to_one_question_are_none(server: StudioServer, store: AnnotationStore) -> None:
    client, (whole, found) = _collected(server, store, [_more(choice("success", "0", id_="again"))])
    assert found == whole.model_copy(update={"scores": whole.scores.model_copy(update={"success": None})})
    assert [drop.reason for drop in store.dropped(client.project)] == ["answered_twice"] * 2


def test_a_time_that_is_none_is_left_out(server: StudioServer, store: AnnotationStore) -> None:
    client, (key,) = _sent(server, store, 1)
    server.annotate(1, received(whole_result(studio_case(1)), lead_time=-1.0))
    collect(client, store)
    (found,) = store.annotations(key, MAX_SEQ)
    assert (found.lead_time_s, len(found.masks)) == (None, 2)
    (drop,) = store.dropped(client.project)
    assert (drop.part, drop.reason, drop.received) == ("lead_time", "bad_value", "-1.0")


def test_what_is_left_out_is_kept_once_as_it_came(server: StudioServer, store: AnnotationStore) -> None:
    bad = brush("b", "nosuch", ring()) | {"id": "b"}
    client, _ = _collected(server, store, [_more(bad, choice("nosuch", "1"), choice("nosuch", "2"))])
    dropped = store.dropped(client.project)
    assert [(drop.annotation, drop.part) for drop in dropped] == [("2", f"result[{n}]") for n in (11, 12, 13)]
    assert json.loads(dropped[0].received) == bad
    store.receive(client.project, client.pull(None))
    assert store.dropped(client.project) == dropped


def test_whether_it_can_be_judged_is_never_guessed(server: StudioServer, store: AnnotationStore) -> None:
    client, (key,) = _sent(server, store, 1)
    server.annotate(1, received([*whole_result(studio_case(1)), choice("cannot_judge", "perhaps")]))
    collect(client, store)
    assert store.annotations(key, MAX_SEQ) == []
    assert [(one.reason, one.part) for one in store.rejects(client.project)] == [("bad_value", "")]
