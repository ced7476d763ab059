"""Annotations of which one item is bent, and what is kept of them: one of a whole annotation, and one of each bend."""

import json
from collections.abc import Callable
from typing import Any

from annotation.exchange import collect, send
from annotation.store import MAX_SEQ, AnnotationStore
from annotation.studio.client import StudioClient, open_studio
from annotation.studio.http import StudioSettings
from annotation.studio.interface import labels_config
from schemas.score import Annotation
from tests.cases.studio_cases import box, choice, item, received, studio_case, whole_result
from tests.cases.studio_server import StudioServer

#: Item number 5 is the mask of region 0, number 8 that of region 1; each is followed by its two answers.
MASK, OTHER_MASK = 5, 8
Result = list[dict[str, Any]]
Bend = Callable[[Result], None]


def set_fields(place: int, **fields: Any) -> Bend:
    return lambda result: result[place].update(fields)


def set_values(place: int, **fields: Any) -> Bend:
    return lambda result: result[place]["value"].update(fields)


def without(place: int, name: str) -> Bend:
    def bend(result: Result) -> None:
        result[place]["value"].pop(name, None)
        result[place].pop(name, None)

    return bend


def more(*items: dict[str, Any]) -> Bend:
    return lambda result: result.extend(items)


def new_box(*numbers: float, **fields: Any) -> dict[str, Any]:
    return box("box", "new region", *numbers, **fields)


TALL = {"text": "x" * 10_001}
#: Bends of one item: the reason that it is left out with, and whether the mask of region 0 goes with it.
DROPPED: dict[str, tuple[Bend, list[str], bool]] = {
    "a brush without RLE": (without(MASK, "rle"), ["bad_mask"], True),
    "a brush with half an RLE": (set_values(MASK, rle=[0, 0, 16]), ["bad_mask"], True),
    "a width off by one": (set_fields(MASK, original_width=33), ["wrong_size"], True),
    "no width": (without(MASK, "original_width"), ["wrong_size"], True),
    "a turned image": (set_fields(MASK, image_rotation=90), ["rotated"], True),
    "an RLE that is text": (set_values(MASK, rle="AAAA"), ["bad_mask"], True),
    "a width of 32.5": (set_fields(MASK, original_width=32.5), ["wrong_size"], True),
    "a brush without label": (without(MASK, "brushlabels"), ["bad_value"], True),
    "a brush with an unknown label": (set_values(MASK, brushlabels=["9 spoon"]), ["bad_value"], True),
    "a zero-width box": (more(new_box(10, 10, 0, 10)), ["empty_box"], False),
    "a box of no number": (more(new_box(10, 10, float("nan"), 10)), ["bad_box"], False),
    "a box far over the edge": (more(new_box(95, 10, 10, 10)), ["bad_box"], False),
    "a turned box": (more(new_box(10, 10, 10, 10, rotation=30)), ["bad_box"], False),
    "an accidental click on a region": (more(box("b", "1 cup 0", 10, 10, 0, 0)), ["empty_box"], False),
    "an item twice": (lambda result: result.append(result[MASK]), ["doubled_id"], False),
    "an answer off the scale": (more(choice("background", "99", id_="x")), ["bad_value"], False),
    "an unknown control": (more(choice("nosuch", "1")), ["unknown_control"], False),
    "a number of no end": (more(new_box(10, 10, 10**400, 10)), ["bad_box"], False),
    "another type": (more(item("success", "rating", {"rating": 3})), ["wrong_type"], False),
    "an answer about no region": (more(choice("region_success", "1", id_="gone")), ["no_region"], False),
    "a number for an item": (lambda result: result.append(7), ["malformed"], False),  # type: ignore[arg-type]
    "a comment of numbers": (more(item("comment", "textarea", {"text": [1]})), ["bad_value"], False),
    "a comment of half a letter": (more(item("comment", "textarea", {"text": ["\ud800"]})), ["bad_value"], False),
    "an answer that says it is a relation": (
        more(choice("nosuch", "1") | {"type": "relation"}),
        ["unknown_control"],
        False,
    ),
    "a comment of a novel's length": (more(item("comment", "textarea", TALL)), ["long_comment"], False),
}
KEPT: dict[str, Bend] = {
    "a width of 32.0": set_fields(MASK, original_width=32.0),
    "an id of another region": set_fields(MASK, id=whole_result(studio_case(1))[OTHER_MASK]["id"]),
    "an id that is none": set_fields(MASK, id=7),
    "no id": set_fields(OTHER_MASK, id=None),
    "a rotation of a choice's image": set_fields(0, image_rotation=90),
}


def sent_alike(server: StudioServer, store: AnnotationStore, n_tasks: int) -> tuple[StudioClient, list[str]]:
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


def collected(server: StudioServer, store: AnnotationStore, bends: list[Bend]) -> tuple[StudioClient, list[Annotation]]:
    """What is kept of an annotation after each bend, as of one task; the first is not bent."""
    client, keys = sent_alike(server, store, len(bends) + 1)
    for number, bend in enumerate([lambda result: None, *bends], 1):
        result = json.loads(json.dumps(whole_result(studio_case(1))))
        bend(result)
        server.annotate(number, received(result, id=number))
    collect(client, store)
    found = [store.annotations(key, MAX_SEQ) for key in keys]
    assert [len(versions) for versions in found] == [1] * len(keys)
    return client, [of_one_task(versions[0]) for versions in found]


def of_one_task(found: Annotation) -> Annotation:
    masks = tuple(mask.model_copy(update={"candidate": "0" * 16}) for mask in found.masks)
    scores = found.scores.model_copy(update={"candidate": "0" * 16})
    same = {"id": "x", "task": "x", "updated_at": "", "created_at": "", "scores": scores, "masks": masks}
    return found.model_copy(update=same)
