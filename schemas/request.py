"""What is asked for: one edit request, of one or several sources, in one or several turns."""

import math
import re
import unicodedata
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.geometry import Box, CocoRle
from schemas.record import Document, Id, Record, Scalar, short_hash

INSTRUCTION_MAX_CHARS = 4_000
Role = Literal["change", "add", "remove"]
RequestKind = Literal["single", "composition", "multi_turn"]
Split = Literal["train", "validation", "test"]

#: What a target asks for. `recolour` and `relight` change an attribute; `move` and `resize` need a `destination`.
Operation = Literal[
    "recolour", "remove", "replace", "insert", "texture", "blur", "relight", "move", "resize", "text", "other"
]


def _clean_text(text: str) -> str:
    if any(unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t" for c in text):
        raise ValueError("has control characters")
    if not text.strip():
        raise ValueError("is empty")
    return text


def _without_dot(path: str) -> str:
    """`a.png` for `./a.png`, as file managers and `find` write it."""
    return re.sub(r"^(\./+)+(?=.)", "", path)


Instruction = Annotated[str, Field(max_length=INSTRUCTION_MAX_CHARS), AfterValidator(_clean_text)]
Label = Annotated[str, Field(max_length=200), AfterValidator(_clean_text)]
ExternalName = Annotated[str, Field(max_length=200), AfterValidator(_clean_text)]
RelativePath = Annotated[
    str, Field(min_length=1, max_length=1_000), AfterValidator(_clean_text), AfterValidator(_without_dot)
]


class Reference(Record):
    """A thing in another source that a target takes its look from (composition requests)."""

    source: Annotated[int, Field(ge=1, le=15)]
    box: Box | None = None


class Target(Record):
    """One thing that the instruction names: a planned region before it has an id.

    box and destination: frame of sources[0] as the user gave it, pixels. Something to be added has the box it shall
    fill; something moved or resized has its old place in `box` and its new one in `destination`.
    mask: the thing's exact pixels where they are known, same frame.
    """

    label: Label
    role: Role = "change"
    operation: Operation = "other"
    box: Box | None = None
    destination: Box | None = None
    mask: CocoRle | None = None
    parameters: Annotated[dict[str, Scalar], Field(max_length=20)] = {}
    reference: Reference | None = None
    turn: Annotated[int, Field(ge=0, le=31)] = 0


class BroughtCandidate(Record):
    """An edited image that the user already has; it goes through the rest of the pipeline unchanged."""

    path: RelativePath
    editor: Label = "unknown"
    seed: int | None = None
    revision: ExternalName | None = None


def _check_structure(kind: RequestKind, n_sources: int, turns: tuple[str, ...], targets: tuple[Target, ...]) -> None:
    if kind == "single" and n_sources != 1:
        raise ValueError(f"kind single has one source, found {n_sources}")
    if kind == "composition" and n_sources < 2:
        raise ValueError("kind composition needs two sources or more")
    if kind == "multi_turn" and len(turns) < 2:
        raise ValueError("kind multi_turn needs two turns or more")
    if kind != "multi_turn" and turns:
        raise ValueError(f"kind {kind} takes no turns")
    for index, target in enumerate(targets):
        if target.turn >= max(1, len(turns)):
            raise ValueError(f"targets.{index}: turn {target.turn} does not exist")
        if target.reference and target.reference.source >= n_sources:
            raise ValueError(f"targets.{index}: reference to source {target.reference.source} does not exist")


def _whole_pixels(box: Any) -> Any:
    """A box as detectors give it, with fractions: its sides at the nearest pixels, one apart at least."""
    numbers = isinstance(box, list | tuple) and all(type(side) in (int, float) and math.isfinite(side) for side in box)
    if not numbers or len(box) != 4 or all(side == int(side) for side in box):
        return box
    x1, y1, x2, y2 = (math.floor(side + 0.5) for side in box)
    return [x1, y1, max(x2, x1 + 1) if box[2] > box[0] else x2, max(y2, y1 + 1) if box[3] > box[1] else y2]


def _target_as_meant(target: Any) -> Any:
    """A target of a request file with whole pixels and the operation in our spelling."""
    if not isinstance(target, dict):
        return target
    boxes = {name: _whole_pixels(target[name]) for name in ("box", "destination") if name in target}
    if isinstance(reference := target.get("reference"), dict) and "box" in reference:
        boxes["reference"] = reference | {"box": _whole_pixels(reference["box"])}
    return target | boxes | ({"operation": "recolour"} if target.get("operation") == "recolor" else {})


class RequestLine(Document):
    """One line of a user's request file: what a person or a program writes.

    sources: paths relative to the file's folder; the first is the canvas that is edited. id: the user's own name.
    source_group: requests of one group share a split: frames of a film, a stereo pair, shots of one object.
    Boxes with fractions are rounded to whole pixels, `recolor` is `recolour`.
    """

    schema_name: ClassVar[str] = "request-line"

    id: ExternalName
    sources: Annotated[tuple[RelativePath, ...], Field(min_length=1, max_length=16)]
    instruction: Instruction
    kind: RequestKind = "single"
    turns: Annotated[tuple[Instruction, ...], Field(max_length=32)] = ()
    targets: Annotated[tuple[Target, ...], Field(max_length=64)] = ()
    candidates: Annotated[tuple[BroughtCandidate, ...], Field(max_length=64)] = ()
    edit_type: Label | None = None
    split: Split | None = None
    source_group: ExternalName | None = None

    @model_validator(mode="before")
    @classmethod
    def _targets_as_meant(cls, data: Any) -> Any:
        targets = data.get("targets") if isinstance(data, dict) else None
        return data | {"targets": [_target_as_meant(one) for one in targets]} if isinstance(targets, list) else data

    @model_validator(mode="after")
    def _structure(self) -> Self:
        _check_structure(self.kind, len(self.sources), self.turns, self.targets)
        return self


class Source(Record):
    """One source image of a request as the build holds it. name: where it came from, never an absolute path.

    origin_sha256: hash of its pixels before scaling; ids and splits hang on it, so they are the same at every size.
    """

    name: ExternalName
    origin_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    pixels_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    width_px: Annotated[int, Field(gt=0)]
    height_px: Annotated[int, Field(gt=0)]


class EditRequest(Document):
    """A checked request. id: hash of the sources' bytes, the instruction and the targets. name: the user's id.

    Boxes and masks are in the frame of sources[0] as the build holds it (after orientation and scaling).
    """

    schema_name: ClassVar[str] = "edit-request"

    id: Id
    name: ExternalName
    kind: RequestKind
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=16)]
    instruction: Instruction
    turns: tuple[Instruction, ...] = ()
    targets: tuple[Target, ...] = ()
    candidates: tuple[BroughtCandidate, ...] = ()
    edit_type: Label
    split: Split | None = None
    source_group: ExternalName | None = None
    synthetic: bool

    @model_validator(mode="after")
    def _structure(self) -> Self:
        _check_structure(self.kind, len(self.sources), self.turns, self.targets)
        return self


def request_id(
    sources_sha256: tuple[str, ...], instruction: str, turns: tuple[str, ...], targets: tuple[Target, ...]
) -> str:
    """The id of a request: hash of its sources' pixels, instruction with turns, and targets, all before scaling."""
    return short_hash(
        "request", sources_sha256, instruction, turns, [target.model_dump(mode="json") for target in targets]
    )
