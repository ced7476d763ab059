"""A candidate's task as Label Studio imports it: its data, and its regions as editable brush masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from annotation.client import Task, TaskRegion, sent_task
from annotation.studio.brush_rle import decode_brush, encode_brush
from annotation.studio.controls import Control
from annotation.studio.interface import region_boxes, region_labels
from annotation.studio.items import Item, Unreadable, check_drawn, check_item
from runtime.masks import rle_to_mask
from schemas.errors import BadInput
from schemas.record import first_fault

TASK_SCHEMA = "studio-task/1"
MODEL_VERSION = "regionwise"


def studio_task(task: Task, source_image: str, edited_image: str, controls: Mapping[str, Control]) -> dict[str, Any]:
    """The task and its prediction as Label Studio imports them. Images: URLs that the annotator's browser can read.

    Raises: BadInput for a task without a size, with masks of another size or of another candidate, regions that come
    twice, or a prediction that does not fit `controls`.
    """
    thing = f"task of candidate {task.candidate}"
    if task.size_hw is None:
        raise BadInput(thing, "does not say how large its image is", "build the run anew")
    names = [region.name for region in sent_task(task).regions]
    items = [_region_item(region, name, task.size_hw, thing) for region, name in zip(task.regions, names, strict=True)]
    if len({item["id"] for item in items}) < len(items):
        raise BadInput(thing, "has a region twice", "build the run anew")
    if any(region.mask.candidate != task.candidate for region in task.regions):
        raise BadInput(thing, "has the mask of another candidate", "build the run anew")
    check_prediction(items, controls, frozenset(names), thing)
    regions = [
        {"region": region.mask.region, "label": region.label, "role": region.role, "origin": region.mask.origin}
        for region in task.regions
    ]
    labels = [region.label for region in task.regions]
    data = {
        "schema": TASK_SCHEMA,
        "candidate": task.candidate,
        "instruction": task.instruction,
        "source_image": source_image,
        "edited_image": edited_image,
        "regions": regions,
        "region_labels": region_labels(labels),
        "region_boxes": region_boxes(labels),
    }
    return {"data": data, "predictions": [{"model_version": MODEL_VERSION, "result": items}]}


def _region_item(region: TaskRegion, name: str, size_hw: tuple[int, int], thing: str) -> dict[str, Any]:
    """A region as an editable brush mask; its numbers are read back and must give the same mask."""
    key, height, width = region.mask.region, *size_hw
    if region.mask.mask.size != size_hw:
        fault = f"has a mask of {list(region.mask.mask.size)} for region {key}, its image is {list(size_hw)}"
        raise BadInput(thing, fault, "build the run anew")
    try:
        mask = rle_to_mask(region.mask.mask)
    except ValueError as error:
        raise BadInput(f"{thing}, region {key}", str(error), "build the run anew") from None
    rle = encode_brush(mask)
    if not np.array_equal(decode_brush(rle, height, width), mask):
        raise BadInput(f"{thing}, region {key}", "does not come back from its brush mask", "report it")
    return {
        "id": key,
        "from_name": "mask",
        "to_name": "edited",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [name]},
    }


def check_prediction(
    items: Sequence[Mapping[str, Any]], controls: Mapping[str, Control], names: frozenset[str], thing: str
) -> None:
    """Raises: BadInput where an item of a prediction does not fit the controls or has coordinates beyond 0..100 %."""
    for item in items:
        try:
            read = Item.model_validate(item)
            check_item(read, controls, names)
            check_drawn(read)
        except (Unreadable, ValidationError) as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
            remedy = "put annotation/studio/labels.xml back as it was"
            raise BadInput(f"{thing}, region {str(item.get('id'))[:80]}", fault, remedy) from None
