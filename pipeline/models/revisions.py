"""Which model it is, without loading it: sha256 over the bytes of its files and over the settings of its answers.

No torch and no model's package is imported here. A file is hashed once a process, by its path, size, time of change and
inode; what a run keeps (`schemas.manifest.ModelFile`) is remembered by the processes that work on it.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.files import sha256_of_file
from schemas.errors import BadInput, RunConflict
from schemas.manifest import ModelFile, ModelIdentity
from schemas.record import Scalar, canonical_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Settings of adapters that say where a model runs and how much at a time, not what it answers.
_MACHINE_SETTINGS = ("device", "batch_size", "cached_images", "images", "max_answer_bytes", "prompts", "workers")
#: A file that changed less than this before it was hashed can change again within one tick of its file system's clock.
SETTLED_NS = 2_000_000_000
_Stat = tuple[str, int, int, int]
_KNOWN: dict[_Stat, str] = {}


@dataclass(frozen=True)
class ModelSource:
    """What a model's answers come from. name: as its spec says it; place: the folder that files are named below."""

    name: str
    place: Path
    files: tuple[Path, ...]
    settings: Mapping[str, Scalar]


def settings_of_answers(settings: "DataclassInstance | None") -> dict[str, Scalar]:
    """The settings of an adapter that its answers depend on."""
    found = asdict(settings) if settings is not None else {}
    return {name: value for name, value in sorted(found.items()) if name not in _MACHINE_SETTINGS}


def file_sha256(path: Path) -> str:
    """sha256 in hex of a model's file. Raises: BadInput where it cannot be read, or changes meanwhile."""
    try:
        before = _stat(path)
        if before in _KNOWN:
            return _KNOWN[before]
        digest = sha256_of_file(path)
        after = _stat(path)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror or error}", "give the model's files") from None
    if before != after:
        raise BadInput(str(path), "changed while it was read", "wait until it is whole, then start again")
    if _is_settled(before, time.time_ns()):
        _KNOWN[before] = digest
    return digest


def remember(files: Iterable[ModelFile], as_of_ns: int) -> None:
    """Takes hashes over that were made before `as_of_ns` (since the epoch), so that files as they were then are not
    hashed again."""
    for file in files:
        known = file.path, file.size_bytes, file.mtime_ns, file.inode
        if _is_settled(known, as_of_ns):
            _KNOWN[known] = file.sha256


def _stat(path: Path) -> _Stat:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino


def _is_settled(stat: _Stat, now_ns: int) -> bool:
    return now_ns - stat[2] > SETTLED_NS


def revision_of(paths: Iterable[Path]) -> str:
    """Which files a model was made of: `sha256:` and 16 hex digits over their names and bytes."""
    lines = [f"{path.name} {file_sha256(path)}\n" for path in sorted(paths)]
    return f"sha256:{sha256(''.join(lines).encode()).hexdigest()[:16]}"


def identify(source: ModelSource) -> ModelIdentity:
    """A model by its files as they are now. Raises: BadInput, naming the file that cannot be read."""
    files = sorted((_identified(path, source.place) for path in source.files), key=lambda file: (file.name, file.path))
    return ModelIdentity(name=source.name, settings=dict(source.settings), files=tuple(files))


def _identified(path: Path, place: Path) -> ModelFile:
    digest = file_sha256(path)
    where, size_bytes, mtime_ns, inode = _stat(path)
    inside = path != place and path.is_relative_to(place)
    name = path.relative_to(place).as_posix() if inside else "/".join(path.parts[-2:])
    return ModelFile(name=name, path=where, size_bytes=size_bytes, mtime_ns=mtime_ns, inode=inode, sha256=digest)


def revision(identity: ModelIdentity) -> str:
    """`sha256:HEX SETTING=VALUE ...`: the hash is over names and bytes of the files, and the settings."""
    files = [[file.name, file.sha256] for file in identity.files]
    digest = sha256(canonical_json([identity.name, identity.settings, files])).hexdigest()
    settings = [f"{name}={value}" for name, value in sorted(identity.settings.items())]
    return " ".join([f"sha256:{digest}", *settings])


def changes(before: ModelIdentity, now: ModelIdentity) -> list[str]:
    """What differs between two identities of a model, a phrase each: files first, then settings."""
    old, new = ({file.name: file for file in one.files} for one in (before, now))
    found = [f"{old[name].path} is gone" for name in sorted(old.keys() - new.keys())]
    found += [f"{new[name].path} is new" for name in sorted(new.keys() - old.keys())]
    both = sorted(old.keys() & new.keys())
    found += [f"the bytes of {new[name].path} changed" for name in both if old[name].sha256 != new[name].sha256]
    for name in sorted({*before.settings, *now.settings}):
        was, is_now = before.settings.get(name), now.settings.get(name)
        found += [f"{name} was {was!r} and is {is_now!r}"] if was != is_now else []
    return found


@contextmanager
def as_they_were(files: Iterable[ModelFile]) -> Iterator[None]:
    """Context in which a model is loaded from files that a run keeps.

    Raises: RunConflict, naming the first file that is another one than the run's, before or after.
    """
    seen = {}
    for file in files:
        path = Path(file.path)
        if not path.is_file():
            raise _changed(path, "is gone since the build was started")
        seen[path] = _stat(path)
        same = seen[path][1:] == (file.size_bytes, file.mtime_ns, file.inode)
        if not same and file_sha256(path) != file.sha256:
            raise _changed(path, "changed since the build was started")
    try:
        yield
    finally:  # a model that did not load may not have for this reason
        for path, stat in seen.items():
            if not path.is_file() or _stat(path) != stat:
                raise _changed(path, "changed while its model was loaded")


def _changed(path: Path, fault: str) -> RunConflict:
    return RunConflict(str(path), fault, "put it back and start again, or build into another --run")


def files_below(place: Path) -> list[Path]:
    """Every file below a folder, or the file itself; none where nothing is there."""
    if os.path.isfile(place):
        return [place]
    found, seen = list[Path](), set[str]()
    for folder, inner, names in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            inner.clear()
            continue
        seen.add(real)
        found += [path for name in names if (path := Path(folder) / name).is_file()]
    return found
