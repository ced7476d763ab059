"""Strikes on annotations: one item of one, as a labelling server of the same interface hands it out."""

import os
from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import patch

from annotation.store import open_store, store_path
from schemas.score import Annotation
from tests.bends.grounds import Grounds
from tests.bends.outcome import AS_WRITTEN, REJECT, RIGHT, Struck
from tests.cases.bad_items import DROPPED, KEPT, Result, collected
from tests.cases.bendings import Kind
from tests.cases.studio_server import TOKEN, StudioServer
from tests.chaos.processes import Broken

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    2**70,
    float("nan"),
    "\ud800",
    "a" * 20_000,
)
#: The items of an annotation that speak of the image, and of each of its two regions: mask, success, preserve.
IMAGE_ITEMS, REGION_ITEMS = 5, 3


def _another_value(result: Result, chance: Random) -> int:
    at, value = chance.randrange(len(result)), chance.choice(VALUES)
    there: dict[str, Any] = result[at] if chance.random() < 0.5 else result[at]["value"]
    there[chance.choice(sorted(there))] = value
    return at


def _field_gone(result: Result, chance: Random) -> int:
    at = chance.randrange(len(result))
    there: dict[str, Any] = result[at] if chance.random() < 0.5 else result[at]["value"]
    there.pop(chance.choice(sorted(there)))
    return at


def _item_replaced(result: Result, chance: Random) -> int:
    at = chance.randrange(len(result))
    result[at] = chance.choice(VALUES)
    return at


def _item_gone(result: Result, chance: Random) -> int:
    at = chance.randrange(len(result))
    del result[at]
    return at


def _stray_field(result: Result, chance: Random) -> int:
    at = chance.randrange(len(result))
    result[at][chance.choice(["origin", "score", "meta", ""])] = chance.choice(VALUES)
    return at


def _case(bend: Callable[[Result], None], at: int | None) -> Callable[[Result, Random], int | None]:
    def apply(result: Result, chance: Random) -> int | None:
        bend(result)
        return at

    return apply


#: Each bends a result, and returns which item.
ITEMS = (
    Kind("another value", _another_value),
    Kind("a field is gone", _field_gone),
    Kind("an item of no kind", _item_replaced),
    Kind("an item is gone", _item_gone),
    Kind("a field of a later version", _stray_field, same=True),
    *(Kind(name, _case(bend, 5 if goes else None)) for name, (bend, _, goes) in DROPPED.items()),
    *(Kind(name, _case(bend, None), same=True) for name, bend in KEPT.items()),
)


def strike_annotation(grounds: Grounds, kind: Kind, chance: Random) -> Struck:
    """Bends an item of one of two annotations that are alike."""
    place, bent, unsaid = grounds.place(), list[int | None](), list[bool]()

    def bend(result: Result) -> None:
        before = len(result)
        bent.append(kind.apply(result, chance))
        unsaid.append(len(result) < before or {"choices": []} in [_value_of(item) for item in result])

    with (
        patch.dict(os.environ, {"LABEL_STUDIO_API_KEY": TOKEN}),
        StudioServer() as server,
        open_store(store_path(place), create=True) as store,
    ):
        client, (whole, found) = collected(server, store, [bend])
        drops = store.dropped(client.project)
    what = grounds.what = f"item {bent[0]}" if bent[0] is not None else "an item"
    _require_rest(whole, found, bent[0])
    if unsaid[0]:
        return Struck(what, AS_WRITTEN)
    said = "; ".join(f"{drop.part}: {drop.reason}" for drop in drops)
    if found == whole:
        return Struck(what, REJECT if drops else RIGHT, said)
    if kind.same:
        raise Broken(f"it means what it meant and says something else: {said}")
    if not drops:
        raise Broken(f"an item is lost or changed without a word: {found.scores}, {len(found.masks)} masks")
    return Struck(what, REJECT, said)


def _value_of(item: Any) -> Any:
    return item.get("value") if isinstance(item, dict) else None


def _require_rest(whole: Annotation, found: Annotation, at: int | None) -> None:
    """Raises: Broken where anything but what item `at` says is not as it was."""
    if _without(found, at) != _without(whole, at):
        raise Broken(f"bent was item {at}, and another is lost or changed")


def _without(one: Annotation, at: int | None) -> Any:
    """An annotation without what its `at`th item says."""
    document = one.model_dump(mode="json")
    scores = document["scores"]
    names = ("background", "success", "overedit", "naturalness", "artifacts")
    if at is None:
        return document
    if at < IMAGE_ITEMS:
        scores[names[at]] = None
        return document
    number, of_region = divmod(at - IMAGE_ITEMS, REGION_ITEMS)
    region = whole_regions(one)[number] if number < len(whole_regions(one)) else None
    for score in scores["regions"]:
        if score["region"] == region:
            score["success"] = score["preserve"] = None
    if of_region == 0:
        document["masks"] = [mask for mask in document["masks"] if mask["region"] != region]
    return document


def whole_regions(one: Annotation) -> list[str]:
    """The keys of the regions in the order of the items."""
    return [score.region for score in one.scores.regions]
