"""The checked request of an opened line."""

from collections.abc import Sequence

from pipeline.requests.lines import OpenedRequest
from runtime.images import ImageU8, pixels_sha256
from schemas.request import EditRequest, Source, Target, request_id

NAME_CHARS = 200


def edit_request(
    opened: OpenedRequest, targets: tuple[Target, ...], origins: Sequence[str], stored: Sequence[ImageU8]
) -> EditRequest:
    """The request of an opened line.

    origins: `pixels_sha256` of the sources at their own size. targets, stored: scaled; the sources' pixels as they are
    read back.
    """
    line = opened.line
    return EditRequest(
        id=request_id(tuple(origins), line.instruction, line.turns, line.targets),
        name=line.id,
        kind=line.kind,
        sources=tuple(
            _source(path, origin, pixels) for path, origin, pixels in zip(line.sources, origins, stored, strict=True)
        ),
        instruction=line.instruction,
        turns=line.turns,
        targets=targets,
        candidates=line.candidates,
        edit_type=line.edit_type or edit_type_of(targets),
        split=line.split,
        source_group=line.source_group,
        synthetic=opened.scene is not None,
    )


def _source(path: str, origin: str, pixels: ImageU8) -> Source:
    return Source(
        name=path[-NAME_CHARS:] if path[-NAME_CHARS:].strip() else "source",
        origin_sha256=origin,
        pixels_sha256=pixels_sha256(pixels),
        width_px=pixels.shape[1],
        height_px=pixels.shape[0],
    )


def edit_type_of(targets: tuple[Target, ...]) -> str:
    """The edit type of a request that names none: its one operation, `multi` for several, `other` for no target."""
    operations = {target.operation for target in targets}
    return operations.pop() if len(operations) == 1 else ("multi" if operations else "other")
