"""Editors by their spec, `name` or `name:place`: the embedded `procedural`, and what installed packages offer.

A package offers an editor as an entry point of the group `regionwise.editors`: an `EditorMaker`. Why:
docs/decisions/0011-editors-are-plug-ins.md.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from pipeline.editors.protocol import Editor
from pipeline.models.cache import ModelCache
from runtime.specs import parse_spec
from schemas.errors import BadInput, MissingPackage

GROUP = "regionwise.editors"
EMBEDDED = "procedural"
_LOADED: ModelCache[Editor] = ModelCache()


class EditorMaker(Protocol):
    """What an entry point of the group is."""

    def __call__(self, place: str | None, device: str) -> Editor:
        """The editor of `name:place`, None without a place; device: as torch names it, or `auto`. Raises: BadInput."""
        ...


def is_embedded(spec: str) -> bool:
    """Whether a spec names the editor that needs no plug-in."""
    return spec.partition(":")[0] == EMBEDDED


def check_editor(spec: str) -> None:
    """Raises: BadInput for an editor that is not known, naming those that are."""
    if not is_embedded(spec):
        _entry_point(spec)


def loaded_editor(spec: str, device: str) -> Editor:
    """The plugged-in editor of a spec; in one process the same files are loaded once.

    Raises: BadInput for a spec that is not known or a place that is no good; MissingPackage for a plug-in that does not
    import.
    """
    return _LOADED.get(spec, (device,), lambda: _make_editor(spec, device))


def _make_editor(spec: str, device: str) -> Editor:
    entry = _entry_point(spec)
    try:
        make: EditorMaker = entry.load()
    except (ImportError, AttributeError) as error:
        fault = f"cannot be loaded from {entry.value}: {error}"
        raise MissingPackage(f"editor {entry.name}", fault, "install the package that offers it, whole") from None
    return make(spec.partition(":")[2] or None, device)


def _entry_point(spec: str) -> EntryPoint:
    offered = entry_points(group=GROUP)
    name, _ = parse_spec(spec, (EMBEDDED, *sorted(offered.names - {EMBEDDED})), "editor")
    first, *others = sorted(offered.select(name=name), key=lambda entry: entry.value)
    if any(other.value != first.value for other in others):
        values = " and ".join(sorted({first.value, *(other.value for other in others)}))
        raise BadInput(f"editor {name}", f"is offered by several packages: {values}", "uninstall all but one")
    return first
