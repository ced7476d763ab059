"""One edited image of a request: who made it, how, and which pixels came out."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from schemas.record import Document, Id, Record, Scalar, Sha256, short_hash
from schemas.request import ExternalName, Label, Operation

#: The defects that the procedural editor puts into an edit, by name.
DefectKind = Annotated[
    str,
    Field(
        pattern="^(missed|wrong_attribute|half_done|spill|other_object|background_drift|seam|noise|compression|warp)$"
    ),
]


class Defect(Record):
    """A flaw put into an edit on purpose. target: index of the planned region it sits in, None for the background.

    strength: 0 (barely there) .. 1 (gross).
    """

    kind: DefectKind
    target: Annotated[int, Field(ge=0)] | None
    strength: Annotated[float, Field(gt=0, le=1)]


class AppliedEdit(Record):
    """What a procedural editor did to one target."""

    target: Annotated[int, Field(ge=0)]
    operation: Operation
    parameters: dict[str, Scalar] = {}


class Candidate(Document):
    """One edited image. id: hash of request, editor, revision, seed and parameters, never of its pixels.

    edits and defects: known by construction for the procedural editor, empty for any other.
    """

    schema_name: ClassVar[str] = "candidate"

    id: Id
    request: Id
    index: Annotated[int, Field(ge=0)]
    editor: Label
    revision: ExternalName | None
    seed: int | None
    parameters: dict[str, Scalar] = {}
    pixels_sha256: Sha256
    width_px: Annotated[int, Field(gt=0)]
    height_px: Annotated[int, Field(gt=0)]
    synthetic: bool
    edits: tuple[AppliedEdit, ...] = ()
    defects: tuple[Defect, ...] = ()


def candidate_id(request: str, editor: str, revision: str | None, seed: int | None, parameters: dict[str, Any]) -> str:
    """The id of a candidate: hash of request, editor, revision, seed and parameters."""
    return short_hash("candidate", request, editor, revision, seed, parameters)
