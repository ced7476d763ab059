"""One bad item of an annotation costs itself: what else was said is kept as it is, and the item with its reason."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.exchange import collect
from annotation.store import MAX_SEQ, AnnotationStore, open_store, store_path
from tests.cases.bad_items import (
    DROPPED,
    KEPT,
    MASK,
    collected,
    more,
    new_box,
    sent_alike,
)
from tests.cases.studio_cases import brush, choice, item, received, ring, studio_case, whole_result
from tests.cases.studio_server import TOKEN, StudioServer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with open_store(store_path(tmp_path), create=True) as found:
        yield found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StudioServer]:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with StudioServer() as running:
        yield running


def test_one_bad_item_is_left_out_with_its_reason_and_the_rest_stays(
    server: StudioServer, store: AnnotationStore
) -> None:
    client, (whole, *found) = collected(server, store, [bend for bend, _, _ in DROPPED.values()])
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
    client, (whole, *found) = collected(server, store, list(KEPT.values()))
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
    _, (_, found) = collected(server, store, [more(new_box(*numbers))])
    assert found.masks[2].box is not None
    assert list(found.masks[2].box) == wanted
    assert found.masks[2].region == "extra-0"


def test_a_mask_without_one_of_its_pieces_is_no_mask(server: StudioServer, store: AnnotationStore) -> None:
    bad = brush("piece", "1 cup 0", ring()) | {"original_width": 31}
    client, (whole, found) = collected(server, store, [more(bad)])
    assert found == whole.model_copy(update={"masks": whole.masks[1:]})
    assert [drop.reason for drop in store.dropped(client.project)] == ["wrong_size", "piece_missing"]


def test_answers_about_a_new_region_that_nobody_can_see_go_with_it_and_other_new_ones_keep_their_number(
    server: StudioServer, store: AnnotationStore
) -> None:
    unseen = [brush("u", "new region", ring()) | {"original_width": 31}, choice("region_success", "1", id_="u")]
    seen = [brush("s", "new region", ring()), choice("region_success", "2", id_="s")]
    client, (_, found) = collected(server, store, [more(*unseen, *seen)])
    assert [(score.region, score.success) for score in found.scores.regions][2:] == [("extra-1", 13)]
    assert [mask.region for mask in found.masks][2:] == ["extra-1"]
    assert [drop.reason for drop in store.dropped(client.project)] == ["wrong_size", "no_region"]


def test_new_regions_keep_their_number_beside_one_whose_label_cannot_be_read(
    server: StudioServer, store: AnnotationStore
) -> None:
    bad = [brush("u", "new region", ring()) | {"value": {}}, brush("v", "new region", ring()) | {"to_name": 7}]
    planned, new = whole_result(studio_case(1))[MASK], brush("n", "new region", ~ring())
    items = [*bad, planned | {"value": {}}, new, new, brush("s", "new region", ring())]
    client, (_, found) = collected(server, store, [more(*items)])
    assert [mask.region for mask in found.masks][2:] == ["extra-2", "extra-3"]
    assert {drop.reason for drop in store.dropped(client.project)} == {"bad_value", "malformed", "doubled_id"}


def test_words_that_came_twice_are_said_once(server: StudioServer, store: AnnotationStore) -> None:
    words = item("comment", "textarea", {"text": ["odd"]})
    client, (_, found) = collected(server, store, [more(words, words)])
    assert found.comment == "odd"
    assert [drop.reason for drop in store.dropped(client.project)] == ["doubled_id"]


def test_an_id_that_two_regions_have_says_nothing_of_either(server: StudioServer, store: AnnotationStore) -> None:
    items = [brush("d", "new region", ring()), brush("d", "new region", ~ring())]
    client, (_, found) = collected(server, store, [more(*items, choice("region_success", "2", id_="d"))])
    scores = {score.region: score.success for score in found.scores.regions[2:]}
    assert scores == {"extra-0": None, "extra-1": None}
    assert [drop.reason for drop in store.dropped(client.project)] == ["no_region"]


def test_two_different_answers_to_one_question_are_none(server: StudioServer, store: AnnotationStore) -> None:
    client, (whole, found) = collected(server, store, [more(choice("success", "0", id_="again"))])
    assert found == whole.model_copy(update={"scores": whole.scores.model_copy(update={"success": None})})
    assert [drop.reason for drop in store.dropped(client.project)] == ["answered_twice"] * 2


def test_a_time_that_is_none_is_left_out(server: StudioServer, store: AnnotationStore) -> None:
    client, (key,) = sent_alike(server, store, 1)
    server.annotate(1, received(whole_result(studio_case(1)), lead_time=-1.0))
    collect(client, store)
    (found,) = store.annotations(key, MAX_SEQ)
    assert (found.lead_time_s, len(found.masks)) == (None, 2)
    (drop,) = store.dropped(client.project)
    assert (drop.part, drop.reason, drop.received) == ("lead_time", "bad_value", "-1.0")


def test_what_is_left_out_is_kept_once_as_it_came(server: StudioServer, store: AnnotationStore) -> None:
    bad = brush("b", "nosuch", ring()) | {"id": "b"}
    client, _ = collected(server, store, [more(bad, choice("nosuch", "1"), choice("nosuch", "2"))])
    dropped = store.dropped(client.project)
    assert [(drop.annotation, drop.part) for drop in dropped] == [("2", f"result[{n}]") for n in (11, 12, 13)]
    assert json.loads(dropped[0].received) == bad
    store.receive(client.project, client.pull(None))
    assert store.dropped(client.project) == dropped


def test_whether_it_can_be_judged_is_never_guessed(server: StudioServer, store: AnnotationStore) -> None:
    client, (key,) = sent_alike(server, store, 1)
    server.annotate(1, received([*whole_result(studio_case(1)), choice("cannot_judge", "perhaps")]))
    collect(client, store)
    assert store.annotations(key, MAX_SEQ) == []
    assert [(one.reason, one.part) for one in store.rejects(client.project)] == [("bad_value", "")]
