"""What an instruction names: the records that parsers return, and their plain form."""

from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.record import Scalar
from schemas.request import Operation, Role, Target

Count = int | Literal["all"]
#: no_target: nothing in it asks for a change of something. not_english: this parser cannot read it.
ParseFault = Literal["no_target", "not_english", "too_many_targets"]
IMAGE = "image"


class CannotParse(ValueError):
    """An instruction names nothing that can be edited; `reason` is the code of the reject."""

    def __init__(self, reason: ParseFault, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Phrase:
    """What to look for, and which of the things found count.

    head: a noun phrase in the singular. position: left, right, top, bottom, middle, two of them ("top left"), front,
    back, largest or smallest; rank: counted from there, 1-based. count: how many, or all of them.
    """

    head: str
    position: str | None = None
    rank: int = 1
    count: Count = 1


@dataclass(frozen=True)
class Place:
    """Where something added, moved or written goes. anchor: None where `relation` is a part of the image."""

    relation: str
    anchor: Phrase | None = None


@dataclass(frozen=True)
class Named:
    """One thing that an instruction names. phrase: None for the whole image.

    excluded: what is not meant; of: what it belongs to or is taken from; where: its place, where one is said.
    """

    label: str
    role: Role
    operation: Operation
    phrase: Phrase | None
    parameters: dict[str, Scalar] = field(default_factory=dict)
    excluded: tuple[Phrase, ...] = ()
    of: Phrase | None = None
    where: Place | None = None

    def target(self) -> Target:
        """The same as a target of a request, without a box."""
        return Target(label=self.label, role=self.role, operation=self.operation, parameters=self.parameters)


@dataclass(frozen=True)
class Parsed:
    """Everything that an instruction names, in its order; never without a target.

    keep: what shall stay as it is. unread: parts of the instruction that were not understood.
    """

    targets: tuple[Named, ...]
    keep: tuple[Phrase, ...] = ()
    unread: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values, with every field at its default left out."""
        plain: dict[str, Any] = {"targets": [_named_json(named) for named in self.targets]}
        if self.keep:
            plain["keep"] = [phrase_json(phrase) for phrase in self.keep]
        return plain | ({"unread": list(self.unread)} if self.unread else {})


def phrase_json(phrase: Phrase) -> dict[str, Any]:
    """Plain values of a phrase, with every field at its default left out."""
    plain: dict[str, Any] = {"head": phrase.head}
    if phrase.position:
        plain["position"] = phrase.position
    if phrase.rank != 1:
        plain["rank"] = phrase.rank
    return plain | ({"count": phrase.count} if phrase.count != 1 else {})


def _named_json(named: Named) -> dict[str, Any]:
    plain: dict[str, Any] = {"label": named.label, "role": named.role, "operation": named.operation}
    plain |= {"whole": True} if named.phrase is None else {"phrase": phrase_json(named.phrase)}
    if named.parameters:
        plain["parameters"] = dict(named.parameters)
    if named.excluded:
        plain["except"] = [phrase_json(phrase) for phrase in named.excluded]
    if named.of:
        plain["of"] = phrase_json(named.of)
    if named.where:
        anchor = {"anchor": phrase_json(named.where.anchor)} if named.where.anchor else {}
        plain["where"] = {"relation": named.where.relation} | anchor
    return plain
