"""The model that was loaded last, kept while it is asked for by the same spec, settings and files."""

from collections.abc import Callable, Hashable
from pathlib import Path
from threading import RLock
from typing import Generic, TypeVar

Model = TypeVar("Model")

#: One model is loaded at a time in a process: transformers is not imported by two threads at once. A model may load
#: another one.
_LOADING = RLock()


class ModelCache(Generic[Model]):
    """Keeps one model. Threads that ask for the same one at once get one object."""

    def __init__(self) -> None:
        self._key: tuple[Hashable, ...] | None = None
        self._model: Model | None = None

    def get(self, spec: str, settings: tuple[Hashable, ...], load: Callable[[], Model]) -> Model:
        """The model of a spec (`name:place`), loaded by `load` unless it is the one that is kept.

        settings: what else it depends on, as device and batch size. Other files at the place are another model. The
        kept one is let go before the next is loaded, so that the two need not fit into memory together.
        """
        with _LOADING:
            key = (spec, settings, files_at(spec))
            if self._model is None or self._key != key:
                self._key = self._model = None
                self._model = load()
                self._key = key
            return self._model


def files_at(spec: str) -> tuple[tuple[str, int, int], ...]:
    """Name, size in bytes and time of change in ns of every file at the place of a spec, sorted by name."""
    place = Path(spec.partition(":")[2] or "/dev/null")
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return tuple((file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file())
