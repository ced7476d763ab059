"""The first stage: a planned line becomes a checked request with its source images, or a reject with its reason."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.gates.duplicates import perceptual_hash
from pipeline.gates.measures import GateSettings, blank, size_and_aspect
from pipeline.models.protocols import Detector
from pipeline.regions.targets import name_targets
from pipeline.requests.files import read_outside_image
from pipeline.requests.scenes import TEXTURES, scene_at
from pipeline.run.plan import PlannedLine
from pipeline.run.stage import PartImages
from runtime.images import (
    BadImage,
    ImageU8,
    fit_size_px,
    mask_to_rle,
    pixels_sha256,
    resize_image,
    resize_mask,
    rle_to_mask,
    scale_box,
)
from schemas.errors import BadInput, NewerSchema
from schemas.geometry import Box, CocoRle, box_in_image
from schemas.request import EditRequest, RequestLine, Source, Target, request_id
from schemas.sample import BroughtFault, Rejection, Sample

STAGE = "requests"
#: A brought candidate may differ this much in aspect from its source: editors round sizes to their own grid.
MAX_ASPECT_DIFFERENCE = 0.05


class BadRequest(ValueError):
    """One request cannot be used; `reason` is the code of its reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class OpenedRequest:
    """A parsed line and its source images at their own size."""

    line: RequestLine
    images: list[ImageU8]
    synthetic: bool
    root: Path | None = None


def open_requests(
    rows: Iterable[PlannedLine],
    images: PartImages,
    *,
    size_px: int,
    gates: GateSettings,
    scene_textures: tuple[str, ...] = TEXTURES,
    detector: Detector | None = None,
) -> Iterator[Sample | Rejection]:
    """Requests from planned lines: parsed, sources decoded and scaled to `size_px`, targets scaled along.

    detector: finds the things of requests without targets; None leaves these without.
    """
    taken = _taken(rows, images, size_px, gates, scene_textures)
    yield from (row for row, _ in taken) if detector is None else name_targets(taken, detector)


def _taken(
    rows: Iterable[PlannedLine], images: PartImages, size_px: int, gates: GateSettings, scene_textures: tuple[str, ...]
) -> Iterator[tuple[Sample | Rejection, ImageU8 | None]]:
    """Each row with the pixels of sources[0] as they are stored; a reject has none."""
    names: dict[str, str] = {}
    for planned in rows:
        name = _name(planned)
        try:
            opened = _open(planned, scene_textures)
            sample, canvas = _sample(opened, images, size_px, gates)
            sample = _bring(sample, opened, images)
            if names.setdefault(sample.key, name) != name:
                raise BadRequest("duplicate_request", f"asks what {names[sample.key]!r} asks, of the same source")
        except (BadRequest, BadImage) as error:
            detail = _printable(error.detail, 500)
            yield Rejection(key=name, name=name, stage=STAGE, reason=error.reason, detail=detail), None
            continue
        yield sample, canvas


def _name(planned: PlannedLine) -> str:
    name = planned.line.get("id") if planned.line else None
    return _printable(name, 200) if isinstance(name, str) and name.strip() else planned.place[:200]


def _printable(text: str, length: int) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:length]


def _open(planned: PlannedLine, scene_textures: tuple[str, ...]) -> OpenedRequest:
    if planned.fault:
        raise BadRequest("unreadable_line", planned.fault)
    if planned.duplicate_of:
        raise BadRequest("duplicate_id", f"{planned.place} has the id of {planned.duplicate_of}")
    if planned.scene:
        line, image = scene_at(*planned.scene, textures=scene_textures)
        return OpenedRequest(line, [image], True)
    line = parse_line(planned.line or {}, planned.place)
    root = Path(planned.root or ".")
    return OpenedRequest(line, [_read(root, path) for path in line.sources], False, root)


def _read(root: Path, path: str) -> ImageU8:
    try:
        return read_outside_image(root, path)
    except BadImage as error:
        raise BadImage(error.reason, f"{path[:100]}: {error.detail}") from None


def parse_line(fields: dict[str, Any], place: str) -> RequestLine:
    """A request line from its fields. Raises: BadRequest with a reason that says which field is at fault."""
    try:
        return RequestLine.from_document(fields, thing=place)
    except NewerSchema as error:
        raise BadRequest("newer_schema", error.fault) from None
    except BadInput as error:
        raise BadRequest(_reason(fields), error.fault) from None


def _reason(fields: dict[str, Any]) -> str:
    """The reject's code for a line that does not fit: by the first field at fault."""
    try:
        RequestLine.model_validate({name: value for name, value in fields.items() if name != "schema"})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["type"] == "extra_forbidden":
            return "unknown_field"
        if fault["loc"][:1] in {("instruction",), ("turns",)}:
            return "bad_instruction"
        return "bad_box" if {"box", "destination"} & set(fault["loc"]) else "bad_request"
    return "wrong_schema"


def _sample(
    opened: OpenedRequest, images: PartImages, size_px: int, gates: GateSettings
) -> tuple[Sample, ImageU8]:  # fmt: skip
    line = opened.line
    for path, image in zip(line.sources, opened.images, strict=True):
        for result in (size_and_aspect(image.shape[1], image.shape[0], gates), blank(image, gates)):
            if not result.passed:
                raise BadRequest(result.gate, f"{path[:100]}: {result.detail}")
    scaled = [_scaled(image, size_px) for image in opened.images]
    targets = tuple(
        _scale_target(f"targets.{index}", target, opened.images, scaled) for index, target in enumerate(line.targets)
    )
    origins = tuple(pixels_sha256(image) for image in opened.images)
    stored = [images.add(image) for image in scaled]
    request = EditRequest(
        id=request_id(origins, line.instruction, line.turns, line.targets),
        name=line.id,
        kind=line.kind,
        sources=tuple(
            _source(path, origin, image.pixels)
            for path, origin, image in zip(line.sources, origins, stored, strict=True)
        ),
        instruction=line.instruction,
        turns=line.turns,
        targets=targets,
        candidates=line.candidates,
        edit_type=line.edit_type or edit_type_of(targets),
        split=line.split,
        source_group=line.source_group,
        synthetic=opened.synthetic,
    )
    sample = Sample(
        key=request.id,
        request=request,
        sources=tuple(image.ref for image in stored),
        source_fingerprint=perceptual_hash(opened.images[0]).hex(),
    )
    return sample, stored[0].pixels


def _source(path: str, origin: str, pixels: ImageU8) -> Source:
    return Source(
        name=path[-200:] if path[-200:].strip() else "source",
        origin_sha256=origin,
        pixels_sha256=pixels_sha256(pixels),
        width_px=pixels.shape[1],
        height_px=pixels.shape[0],
    )


def _scaled(image: ImageU8, size_px: int) -> ImageU8:
    return resize_image(image, *fit_size_px(image.shape[1], image.shape[0], size_px))


def _bring(sample: Sample, opened: OpenedRequest, images: PartImages) -> Sample:
    """`sample` with the candidates that its line brought along, and the fault of each that cannot be used.

    Raises: BadRequest where the line brought some and none can be used.
    """
    request, canvas = sample.request, sample.request.sources[0]
    good, refs, bad = [], [], []
    for index, brought in enumerate(request.candidates):
        try:
            image = _on_canvas(_read(opened.root or Path(), brought.path), canvas.width_px, canvas.height_px)
        except BadImage as error:
            bad.append(BroughtFault(index=index, reason=error.reason, detail=_printable(error.detail, 500)))
            continue
        good.append(brought)
        refs.append(images.add(image).ref)
    if bad and not good:
        raise BadRequest("no_usable_candidate", f"none of {len(bad)} candidates can be used: {bad[0].detail}")
    request = request.model_copy(update={"candidates": tuple(good)})
    return sample.model_copy(update={"request": request, "brought": tuple(refs), "brought_faults": tuple(bad)})


def _on_canvas(image: ImageU8, width_px: int, height_px: int) -> ImageU8:
    height, width = image.shape[:2]
    if abs(width / height * height_px / width_px - 1) > MAX_ASPECT_DIFFERENCE:
        raise BadImage("other_aspect", f"{width} x {height} px does not fit the source's {width_px} x {height_px} px")
    return resize_image(image, width_px, height_px)


def edit_type_of(targets: tuple[Target, ...]) -> str:
    """The edit type of a request that names none: its one operation, `multi` for several, `other` for no target."""
    operations = {target.operation for target in targets}
    return operations.pop() if len(operations) == 1 else ("multi" if operations else "other")


def _scale_target(place: str, target: Target, originals: list[ImageU8], scaled: list[ImageU8]) -> Target:
    """`target` in the frame of the scaled images. Raises: BadRequest for a box or mask that does not fit its image."""
    changes: dict[str, Any] = {}
    for name in ("box", "destination"):
        if box := getattr(target, name):
            changes[name] = _scale_box(f"{place}.{name}", box, originals[0], scaled[0])
    if target.reference and target.reference.box:
        source, box = target.reference.source, target.reference.box
        box = _scale_box(f"{place}.reference.box", box, originals[source], scaled[source])
        changes["reference"] = target.reference.model_copy(update={"box": box})
    if target.mask is not None:
        changes["mask"] = _scale_mask(f"{place}.mask", target.mask, originals[0], scaled[0])
    return target.model_copy(update=changes)


def _scale_box(place: str, box: Box, original: ImageU8, scaled: ImageU8) -> Box:
    (height, width), (new_height, new_width) = original.shape[:2], scaled.shape[:2]
    if not box_in_image(box, width, height):
        raise BadRequest("box_outside_image", f"{place} {list(box)} leaves {width} x {height} px")
    return scale_box(box, (width, height), (new_width, new_height))


def _scale_mask(place: str, rle: CocoRle, original: ImageU8, scaled: ImageU8) -> CocoRle | None:
    """The mask at the new size; None where nothing of it is left."""
    if rle.size != original.shape[:2]:
        raise BadRequest("bad_mask", f"{place} has size {list(rle.size)}, its image {list(original.shape[:2])}")
    try:
        mask = rle_to_mask(rle)
    except ValueError as error:
        raise BadRequest("bad_mask", f"{place}: {error}") from None
    if not mask.any():
        raise BadRequest("bad_mask", f"{place} is empty")
    resized = resize_mask(mask, scaled.shape[1], scaled.shape[0])
    return mask_to_rle(resized) if resized.any() else None
