"""How the spec of a model or editor is read: `name`, or `name:place` with its checkpoint, folder or address."""

from pathlib import Path

from schemas.errors import BadInput

#: The place of weights that come with the product, no path: `sam:tiny`.
SHIPPED = "tiny"


def parse_spec(spec: str, known: tuple[str, ...], what: str) -> tuple[str, str | None]:
    """(name, checkpoint) of a backend spec. Raises: BadInput for a name that is not known."""
    name, _, checkpoint = spec.partition(":")
    if name not in known:
        raise BadInput(f"{what} {spec!r}", "is not known", f"choose one of {', '.join(known)}")
    return name, checkpoint or None


def absolute_spec(spec: str, folders: tuple[str, ...], base: Path) -> str:
    """`spec` with its place below `base` where it is relative; of those names alone whose places are folders."""
    name, _, place = spec.partition(":")
    return f"{name}:{base.absolute() / place}" if place and name in folders else spec
