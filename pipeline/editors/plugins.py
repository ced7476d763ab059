"""Editors by their spec, `name` or `name:place`: the embedded `procedural`, and what installed packages offer.

A package offers an editor as an entry point of the group `regionwise.editors`: an `EditorMaker`. Under the same name in
the group `regionwise.editor_files` it may say which files the editor's answers come from: an `EditorFiles`. Why:
docs/decisions/0011-editors-are-plug-ins.md, docs/decisions/0014-revisions-are-of-bytes.md.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from pipeline.editors.protocol import Editor
from pipeline.models.cache import ModelCache
from pipeline.models.revisions import ModelSource, files_below
from runtime.specs import parse_spec
from schemas.errors import BadInput, MissingPackage

GROUP = "regionwise.editors"
FILES_GROUP = "regionwise.editor_files"
EMBEDDED = "procedural"
_LOADED: ModelCache[Editor] = ModelCache()


class EditorMaker(Protocol):
    """What an entry point of the group is."""

    def __call__(self, place: str | None, device: str) -> Editor:
        """The editor of `name:place`, None without a place; device: as torch names it, or `auto`. Raises: BadInput."""
        ...


class EditorFiles(Protocol):
    """What an entry point of `FILES_GROUP` is. Its module is imported by whoever starts a build: it loads no model."""

    def __call__(self, place: str | None) -> Iterable[Path]:
        """The files that the answers of `name:place` come from. Raises: BadInput where one is missing."""
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
    make: EditorMaker = _loaded(_entry_point(spec))
    return make(spec.partition(":")[2] or None, device)


def editor_source(spec: str) -> ModelSource:
    """The files of a plugged-in editor and the package that offers it; the editor's own module is not imported.

    A package that says nothing of files is taken at its place: every file below it.
    Raises: BadInput for a spec that is not known or a place that is no good; MissingPackage.
    """
    entry = _entry_point(spec)
    place = spec.partition(":")[2] or None
    offered = entry.dist.entry_points.select(group=FILES_GROUP, name=entry.name) if entry.dist else ()
    files: EditorFiles = next((_loaded(one) for one in offered), _files_at_place)
    package = {"package": entry.dist.name, "version": entry.dist.version} if entry.dist else {}
    return ModelSource(entry.name, Path(place or "/dev/null"), tuple(files(place)), package)


def _files_at_place(place: str | None) -> list[Path]:
    return files_below(Path(place)) if place else []


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        fault = f"cannot be loaded from {entry.value}: {error}"
        raise MissingPackage(f"editor {entry.name}", fault, "install the package that offers it, whole") from None


def _entry_point(spec: str) -> EntryPoint:
    offered = entry_points(group=GROUP)
    name, _ = parse_spec(spec, (EMBEDDED, *sorted(offered.names - {EMBEDDED})), "editor")
    first, *others = sorted(offered.select(name=name), key=lambda entry: entry.value)
    if any(other.value != first.value for other in others):
        values = " and ".join(sorted({first.value, *(other.value for other in others)}))
        raise BadInput(f"editor {name}", f"is offered by several packages: {values}", "uninstall all but one")
    return first
