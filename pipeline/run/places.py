"""Where what a run is made from lies. `run.json` keeps such places from the run folder, so that a folder that holds
both can be moved, and a run be gone on with from any folder.

`$RUN/../photos/requests.jsonl` is a path from the run folder. A place without `$RUN/` is as it was typed: of a run
that an earlier version made, or no path at all, as the address of an editor.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.specs import SHIPPED

FROM_RUN = "$RUN/"
#: Settings of a build that name a model with its place, `name:place`.
SPECS = ("editor", "detector", "segmenter")


def kept_path(path: str, run: Path) -> str:
    """A path as `run.json` keeps it; one that is kept already stays."""
    if path.startswith(FROM_RUN):
        return path
    return FROM_RUN + Path(os.path.relpath(Path(path).resolve(), run.resolve())).as_posix()


def found_path(kept: str, run: Path) -> str:
    """Where a kept path leads now."""
    return os.path.normpath(run.resolve() / kept.removeprefix(FROM_RUN)) if kept.startswith(FROM_RUN) else kept


def kept_spec(spec: str, run: Path) -> str:
    """`name:place` as `run.json` keeps it, where its place is a path that exists."""
    name, _, place = spec.partition(":")
    is_path = place not in ("", SHIPPED) and Path(place).exists()
    return f"{name}:{kept_path(place, run)}" if is_path else spec


def found_spec(kept: str, run: Path) -> str:
    """A kept spec with the place where its model lies now."""
    name, colon, place = kept.partition(":")
    return name + colon + found_path(place, run)


def kept_places(config: dict[str, Any], run: Path) -> dict[str, Any]:
    """A build's settings with their places as `run.json` keeps them; request files lie where its `inputs` say."""
    requests = [str(Path(path).resolve()) for path in config.get("requests", ())]
    return _with_specs(config, lambda spec: kept_spec(spec, run)) | {"requests": requests}


def found_places(config: dict[str, Any], run: Path) -> dict[str, Any]:
    """A build's kept settings with the places of now."""
    return _with_specs(config, lambda spec: found_spec(spec, run))


def named_places(config: dict[str, Any]) -> dict[str, Any]:
    """A build's kept settings without folders: of a place, its last name."""
    requests = config.get("requests", ())
    named = (
        [Path(path).name if isinstance(path, str) else path for path in requests] if _is_list(requests) else requests
    )
    return _with_specs(config, _named_spec) | {"requests": named}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _named_spec(kept: str) -> str:
    name, colon, place = kept.partition(":")
    return name + colon + (Path(place).name if place.startswith((FROM_RUN, "/")) else place)


def _with_specs(config: dict[str, Any], of_spec: Callable[[str], str]) -> dict[str, Any]:
    return config | {name: of_spec(config[name]) for name in SPECS if isinstance(config.get(name), str)}
