"""Snapshots of the annotation store: names for everything that had arrived by a time."""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from schemas.errors import BadInput
from schemas.score import SnapshotName

_SNAPSHOT_NAME: TypeAdapter[str] = TypeAdapter(SnapshotName)


@dataclass(frozen=True)
class Snapshot:
    """Everything up to `high_water`. origin: how its maker describes it, so that making it again can be told apart.

    rankings: the same as `high_water`, of the rankings.
    """

    name: str
    high_water: int
    origin: str
    rankings: int = 0


def check_snapshot_name(name: str) -> str:
    """The name, if it is one. Raises: BadInput."""
    try:
        return _SNAPSHOT_NAME.validate_python(name)
    except ValidationError:
        raise BadInput(f"snapshot {name[:80]!r}", "is no name", "use a-z, 0-9, - and _, at most 64") from None
