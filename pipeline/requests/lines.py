"""A planned line opened: its fields as a checked `RequestLine`, and its source images at their own size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.requests.files import read_outside_image
from pipeline.requests.scenes import scene_at
from pipeline.run.plan import PlannedLine
from runtime.images import BadImage, ImageU8
from schemas.errors import BadInput, NewerSchema
from schemas.request import RequestLine

NAME_CHARS = 200


class BadRequest(ValueError):
    """One request cannot be used; `reason` is the code of its reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class OpenedRequest:
    """A parsed line and its source images (HWC uint8 RGB) at their own size.

    root: the folder that the paths of its candidates are relative to; None for a procedural scene.
    """

    line: RequestLine
    images: list[ImageU8]
    synthetic: bool
    root: Path | None = None


def open_line(planned: PlannedLine, scene_textures: tuple[str, ...]) -> OpenedRequest:
    """A line of the plan with its source images; a scene is rendered.

    Raises: BadRequest for a line that cannot be used; BadImage for a source that cannot be read.
    """
    if planned.fault:
        raise BadRequest("unreadable_line", planned.fault)
    if planned.duplicate_of:
        raise BadRequest("duplicate_id", f"{planned.place} has the id of {planned.duplicate_of}")
    if planned.scene:
        line, image = scene_at(*planned.scene, textures=scene_textures)
        return OpenedRequest(line, [image], True)
    line = parse_line(planned.line or {}, planned.place)
    root = Path(planned.root or ".")
    return OpenedRequest(line, [read_image_of_line(root, path) for path in line.sources], False, root)


def read_image_of_line(root: Path, path: str) -> ImageU8:
    """An image that a request line names. Raises: BadImage, its detail with the path."""
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


def line_name(planned: PlannedLine) -> str:
    """What rejects call a line: its id, or its place where it has none."""
    name = planned.line.get("id") if planned.line else None
    return printable(name, NAME_CHARS) if isinstance(name, str) and name.strip() else planned.place[:NAME_CHARS]


def printable(text: str, length: int) -> str:
    """The first `length` characters of `text`, those that cannot be printed as spaces."""
    return "".join(c if c.isprintable() else " " for c in text)[:length]
