"""A planned line opened: its fields as a checked `RequestLine`, and its source images at their own size."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.requests.files import outside_pixels, read_outside_image
from pipeline.requests.scenes import scene_at
from pipeline.run.plan import PlannedLine
from runtime.images import MAX_REQUEST_PIXELS, BadImage, ImageU8
from schemas.errors import BadInput, NewerSchema
from schemas.record import ordered_faults
from schemas.request import RequestLine


class BadRequest(ValueError):
    """One request cannot be used; `reason` is the code of its reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class OpenedRequest:
    """A parsed line. root: the folder that its paths are relative to. scene: the picture of a procedural scene."""

    line: RequestLine
    root: Path = Path()
    scene: ImageU8 | None = None

    def images(self) -> Iterator[ImageU8]:
        """The source images (HWC uint8 RGB) at their own size, each read when it is asked for.

        Whoever holds one at a time never has two in memory. Raises: BadImage for one that cannot be read; MemoryError.
        """
        if self.scene is not None:
            yield self.scene
        else:
            yield from map(self.read, self.line.sources)

    def read(self, path: str) -> ImageU8:
        """An image that the line names. Raises: BadImage, its detail with the path; MemoryError."""
        try:
            return read_outside_image(self.root, path)
        except BadImage as error:
            raise BadImage(error.reason, f"{path[:100]}: {error.detail}") from None


def open_line(planned: PlannedLine, scene_textures: tuple[str, ...]) -> OpenedRequest:
    """A line of the plan, whose images can be read; a scene is rendered. Raises: BadRequest for one of no use."""
    if planned.fault:
        raise BadRequest("unreadable_line", planned.fault)
    if planned.duplicate_of:
        raise BadRequest("duplicate_id", f"{planned.place} has the id of {planned.duplicate_of}")
    if planned.scene:
        line, image = scene_at(*planned.scene, textures=scene_textures)
        return OpenedRequest(line, scene=image)
    opened = OpenedRequest(parse_line(planned.line or {}, planned.place), Path(planned.root or "."))
    _check_pixels(opened)
    return opened


def _check_pixels(opened: OpenedRequest) -> None:
    """Raises: BadRequest where the images of a request have too many pixels together, by their headers."""
    paths = (*opened.line.sources, *(candidate.path for candidate in opened.line.candidates))
    pixels = sum(outside_pixels(opened.root, path) for path in paths)
    if pixels > MAX_REQUEST_PIXELS:
        found = f"its {len(paths)} images have {pixels / 1e6:.0f} megapixels together"
        detail = f"{found}, at most {MAX_REQUEST_PIXELS / 1e6:.0f} are read; scale them down"
        raise BadRequest("too_many_pixels", detail)


def parse_line(fields: dict[str, Any], place: str) -> RequestLine:
    """A request line from its fields. Raises: BadRequest with a reason that says which field is at fault."""
    try:
        return RequestLine.from_document(fields, thing=place)
    except NewerSchema as error:
        raise BadRequest("newer_schema", error.fault) from None
    except BadInput as error:
        raise BadRequest(_reason(fields), error.fault) from None


def _reason(fields: dict[str, Any]) -> str:
    """The reject's code for a line that does not fit: by the field at fault that its detail names."""
    try:
        RequestLine.model_validate({name: value for name, value in fields.items() if name != "schema"})
    except ValidationError as error:
        fault = ordered_faults(error)[0]
        if fault["type"] == "extra_forbidden":
            return "unknown_field"
        if fault["loc"][:1] in {("instruction",), ("turns",)}:
            return "bad_instruction"
        return "bad_box" if {"box", "destination"} & set(fault["loc"]) else "bad_request"
    return "wrong_schema"


def printable(text: str, length: int) -> str:
    """The first `length` characters of `text`, those that cannot be printed as spaces."""
    return "".join(c if c.isprintable() else " " for c in text)[:length]
