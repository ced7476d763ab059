"""Whether two requests ask the same: of sources and instructions that are alike, the targets and the other sources.

Boxes are compared as shares of their image, and by overlap: near copies of a photograph differ in size, and detectors
and people by some pixels.
"""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.requests.instructions.choose import iou
from pipeline.run.folder import part_name, read_columns
from runtime.masks import mask_box, rle_to_mask
from schemas.geometry import Box
from schemas.request import EditRequest, Source, Target
from schemas.sample import Sample

#: Boxes that overlap at least so far (IoU) are taken for the same place: COCO's lowest threshold for a found thing.
SAME_PLACE_IOU = 0.5


def read_requests(run: Path, part: int, ids: Collection[str]) -> dict[str, EditRequest]:
    """The requests of a part's kept rows by their ids; no record of another is parsed. Raises: DamagedFile."""
    table = read_columns(run, "gates", part, ["request", "kept", "record"])
    wanted = pc.and_(table["kept"], pc.is_in(table["request"], pa.array(sorted(ids), pa.string())))
    rows = table.filter(wanted)
    thing = f"gates/{part_name(part)}.parquet"
    first = {request: index for index, request in reversed(list(enumerate(rows["request"].to_pylist())))}
    return {
        request: Sample.from_json(rows["record"][index].as_py(), thing=thing).request
        for request, index in first.items()
    }


def asks_the_same(one: EditRequest, other: EditRequest) -> bool:
    """Whether two requests with one instruction, of canvases that are alike, mean the same targets in them."""
    others = [[source.origin_sha256 for source in request.sources[1:]] for request in (one, other)]
    if others[0] != others[1] or len(one.targets) != len(other.targets):
        return False
    return all(
        _same_target(first, second, one.sources, other.sources)
        for first, second in zip(one.targets, other.targets, strict=True)
    )


def _same_target(one: Target, other: Target, sources: tuple[Source, ...], others: tuple[Source, ...]) -> bool:
    if _words(one) != _words(other):
        return False
    canvas, canvas_2 = sources[0], others[0]
    if not _same_place(_place(one), canvas, _place(other), canvas_2):
        return False
    if not _same_place(one.destination, canvas, other.destination, canvas_2):
        return False
    if one.reference is None or other.reference is None:
        return one.reference is other.reference
    index = one.reference.source
    return _same_place(one.reference.box, sources[index], other.reference.box, others[index])


def _words(target: Target) -> tuple[object, ...]:
    label = " ".join(target.label.casefold().split())
    reference = target.reference.source if target.reference else None
    return label, target.role, target.operation, target.parameters, target.turn, reference


def _place(target: Target) -> Box | None:
    return target.box if target.box or target.mask is None else mask_box(rle_to_mask(target.mask))


def _same_place(one: Box | None, image: Source, other: Box | None, image_2: Source) -> bool:
    """Whether both are None, or overlap enough as shares of their images."""
    if one is None or other is None:
        return one is other
    return iou(_shares(one, image), _shares(other, image_2)) >= SAME_PLACE_IOU


def _shares(box: Box, image: Source) -> tuple[float, float, float, float]:
    width, height = image.width_px, image.height_px
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height
