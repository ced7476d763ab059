"""Tasks for a labelling server, and annotations as Label Studio's JSON has them, that the tests of both share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from annotation.client import SentTask, Task, TaskRegion, sent_task
from annotation.studio.brush_rle import encode_brush
from benchmarks.mask_cases import region_masks
from runtime.masks import MaskBool, mask_box, mask_to_rle, rle_to_mask
from schemas.record import short_hash
from schemas.region import ObservedMask
from tests.cases.rater_cases import IMAGE

SIZE_PX = 32
IMAGE_NAMES = ("background", "success", "overedit", "naturalness", "artifacts")
CREATED, UPDATED = "2026-01-02T03:04:05.000001Z", "2026-01-02T03:05:06.000002Z"


def observed(candidate: str, region: str, mask: MaskBool) -> ObservedMask:
    """A mask as a segmenter found it."""
    return ObservedMask(
        candidate=candidate,
        region=region,
        origin="segmenter",
        status="unplanned" if region.startswith("extra-") else "changed",
        mask=mask_to_rle(mask),
        box=mask_box(mask),
        area_px=int(mask.sum()),
        confidence=0.9,
    )


def studio_case(number: int, n_regions: int = 2, size_px: int = SIZE_PX, extras: int = 0) -> Task:
    """Task `number`: its first regions planned, `extras` more that nobody named."""
    candidate = short_hash("candidate", number)
    masks = region_masks(number, size_px, n_regions + extras)
    keys = [short_hash("region", number, index) for index in range(n_regions)]
    keys += [f"extra-{index}" for index in range(extras)]
    regions = tuple(
        TaskRegion(
            label=f"cup {index}", role="change" if index < n_regions else None, mask=observed(candidate, key, mask)
        )
        for index, (key, mask) in enumerate(zip(keys, masks, strict=True))
    )
    return Task(
        candidate=candidate,
        index=number,
        instruction="make the cups red",
        sources=(IMAGE,),
        edited=IMAGE,
        regions=regions,
        size_hw=(size_px, size_px),
    )


def item(name: str, kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One item of a result."""
    return {
        "id": more.pop("id", f"{name}-id"),
        "from_name": name,
        "to_name": "edited",
        "type": kind,
        "value": value,
    } | more


def brush(id_: str, label: str, mask: MaskBool) -> dict[str, Any]:
    """A drawn mask."""
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]}
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0], "image_rotation": 0}
    return item("mask", "brushlabels", value, id=id_, **size)


def box(id_: str, label: str, x: float, y: float, width: float, height: float, /, **more: Any) -> dict[str, Any]:
    """A drawn box, in per cent of a square image of `SIZE_PX`."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]} | more
    size = {"original_width": SIZE_PX, "original_height": SIZE_PX, "image_rotation": 0}
    return item("box", "rectanglelabels", value, id=id_, **size)


def choice(name: str, *chosen: str, id_: str | None = None) -> dict[str, Any]:
    """An answer, of a region where `id_` names one."""
    return item(name, "choices", {"choices": list(chosen)}, id=id_ or f"{name}-id")


def whole_result(task: Task, level: int = 3) -> list[dict[str, Any]]:
    """Every question of a task answered alike, the masks as they were sent."""
    result = [choice(name, str(level)) for name in IMAGE_NAMES]
    for region, sent in zip(task.regions, sent_task(task).regions, strict=True):
        key = region.mask.region
        result.append(brush(key, sent.name, decoded(region.mask)))
        result += [choice(name, str(level), id_=key) for name in ("region_success", "region_preserve")]
    return result


def decoded(mask: ObservedMask) -> MaskBool:
    """The pixels of a record's mask."""
    return rle_to_mask(mask.mask)


def received(result: Sequence[dict[str, Any]], task: int = 7, **fields: Any) -> dict[str, Any]:
    """An annotation as the server hands it out."""
    settled = {"id": 70, "task": task, "completed_by": 5, "was_cancelled": False, "lead_time": 12.5}
    return settled | {"created_at": CREATED, "updated_at": UPDATED, "result": list(result)} | fields


def sent_case(number: int = 0, **more: Any) -> tuple[Task, SentTask]:
    """A task and what is kept of it."""
    task = studio_case(number, **more)
    return task, sent_task(task)


def ring(size_px: int = SIZE_PX) -> MaskBool:
    """A mask with a hole, unlike those of `studio_case`."""
    ys, xs = np.mgrid[:size_px, :size_px] - (size_px - 1) / 2
    radius = (ys**2 + xs**2) ** 0.5
    return np.asarray((radius > 5) & (radius < 11))
