"""What an editor has to offer: a Protocol, the edit that it makes with its record, and the error where it cannot."""

from dataclasses import dataclass
from typing import Protocol

from runtime.images import ImageU8, pixels_sha256
from schemas.candidate import AppliedEdit, Candidate, Defect, candidate_id
from schemas.record import Scalar
from schemas.request import EditRequest


@dataclass(frozen=True)
class Edit:
    """One edited image and how it was made. image: HWC uint8 RGB, the size of the canvas (sources[0]).

    edits, defects: what was done by construction, from which an oracle score follows; empty where unknown.
    """

    image: ImageU8
    seed: int | None
    parameters: dict[str, Scalar]
    edits: tuple[AppliedEdit, ...] = ()
    defects: tuple[Defect, ...] = ()


def candidate_record(
    request: EditRequest, edit: Edit, *, index: int, editor: str, revision: str | None, synthetic: bool
) -> Candidate:
    """The record of an edit that `editor` (its name) made as candidate number `index` of `request`.

    Its id hangs on the edit's seed and parameters, its pixels' hash on the edit's image.
    """
    return Candidate(
        id=candidate_id(request.id, editor, revision, edit.seed, edit.parameters),
        request=request.id,
        index=index,
        editor=editor,
        revision=revision,
        seed=edit.seed,
        parameters=edit.parameters,
        pixels_sha256=pixels_sha256(edit.image),
        width_px=edit.image.shape[1],
        height_px=edit.image.shape[0],
        synthetic=synthetic,
        edits=edit.edits,
        defects=edit.defects,
    )


class Editor(Protocol):
    """Makes edited images. name, revision: what stands in the candidate's record; synthetic: no real model made it."""

    name: str
    revision: str
    synthetic: bool

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """Candidate number `index` of `request`; the same arguments give the same pixels.

        Raises: CannotEdit where this editor cannot carry out this request.
        """
        ...


class CannotEdit(ValueError):
    """An editor cannot carry out a request; `reason` is the code of the reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
