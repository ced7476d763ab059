"""What a backend has to offer, as Protocols, and how its spec (`name` or `name:checkpoint`) is read."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.images import ImageU8, MaskBool
from schemas.candidate import AppliedEdit, Defect
from schemas.errors import BadInput
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


class Segmenter(Protocol):
    """Finds what changed between a source and an edited image."""

    name: str
    revision: str

    def changed(self, source: ImageU8, edited: ImageU8) -> MaskBool:
        """Mask (H, W) in the edited frame of the pixels that were edited, global drift and noise left out."""
        ...


def parse_spec(spec: str, known: tuple[str, ...], what: str) -> tuple[str, str | None]:
    """(name, checkpoint) of a backend spec. Raises: BadInput for a name that is not known."""
    name, _, checkpoint = spec.partition(":")
    if name not in known:
        raise BadInput(f"{what} {spec!r}", "is not known", f"choose one of {', '.join(known)}")
    return name, checkpoint or None
