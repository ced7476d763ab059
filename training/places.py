"""Where what a training is made from lies.

A training's files keep a place in its run as a path from there, `$RUN/dataset`, so that a run folder can be moved as a
whole; any other place is kept as it was given. The run is the nearest folder above with a `run.json`.
"""

from collections.abc import Callable
from pathlib import Path

from pipeline.run.places import FROM_RUN
from schemas.errors import BadInput


def run_of(folder: Path) -> Path | None:
    """The run that a folder, which need not be there yet, lies in."""
    place = folder.resolve()
    return next((above for above in (place, *place.parents) if (above / "run.json").is_file()), None)


def kept_place(place: str, folder: Path) -> str:
    """A place as the files in `folder` keep it."""
    run = run_of(folder)
    if run is None or place.startswith(FROM_RUN) or not Path(place).resolve().is_relative_to(run):
        return place
    return FROM_RUN + Path(place).resolve().relative_to(run).as_posix()


def found_place(kept: str, folder: Path) -> str:
    """Where a place that the files in `folder` keep is now. Raises: BadInput where they lie in no run any more."""
    if not kept.startswith(FROM_RUN):
        return kept
    run = run_of(folder)
    if run is None:
        fault = f"names {kept[:200]}, and lies in no run folder any more"
        raise BadInput(str(folder), fault, "put it back into its run, or bring the run along")
    return str(run / kept.removeprefix(FROM_RUN))


def of_place(change: Callable[[str, Path], str], spec: str, folder: Path, names: tuple[str, ...]) -> str:
    """A spec, `name:place`, with its place changed where its name is among those whose places are folders."""
    name, _, place = spec.partition(":")
    return f"{name}:{change(place, folder)}" if place and name in names else spec
