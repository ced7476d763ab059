"""Files of requests that are not there. A build stops where most are absent or their folder is, for then it was moved;
what was missing and is there now is tried again.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.requests.files import is_there
from pipeline.run.folder import done_path, part_name, read_columns, read_done, rows_path
from pipeline.run.places import found_path
from pipeline.run.plan import PlannedLine, line_name, read_plan
from schemas.errors import BadInput, DamagedFile
from schemas.manifest import BuildInfo, PartDone
from schemas.sample import Sample

STAGE = "requests"
MISSING = "missing_file"
REMEDY = (
    "put it back, or say where it is now: `regionwise build --run {run} --requests PLACE` with the settings of before"
)


def request_folders(run: Path, info: BuildInfo) -> list[Path]:
    """The folder of each of a run's request files, in their order: beside the run as it was, or where it was first."""
    return [_found_file(run, kept, info).parent for kept in info.inputs]


def _found_file(run: Path, kept: str, info: BuildInfo) -> Path:
    beside = Path(found_path(kept, run)).absolute()
    places = [Path(place) for place in info.config.get("requests", ())]
    first = [place if place.name == beside.name else place / beside.name for place in places]
    files = [beside, *first]
    return next((file for file in files if file.is_file()), next((one for one in files if one.parent.is_dir()), beside))


def check_sources(run: Path, info: BuildInfo) -> None:
    """Looks for the sources of a run that has requests to open still.

    Raises: BadInput where the folder of a request file is absent, or more than half of the sources below one.
    """
    if any(read_done(run, STAGE, part) is None for part in range(info.n_parts)):
        folders = request_folders(run, info)
        _check(run, (line for part in range(info.n_parts) for line in read_plan(_plan_path(run, part), folders)))


def lines_to_open(run: Path, info: BuildInfo, part: int) -> Iterator[PlannedLine]:
    """The lines of one part of the plan, whose requests are opened now.

    Raises: BadInput where their folder is absent; where the part was opened before, too, if most of its sources are:
    what is lost of it would become rejects.
    """
    path, folders = _plan_path(run, part), request_folders(run, info)
    _check(run, read_plan(path, folders), folders_alone=read_done(run, STAGE, part) is None)
    return read_plan(path, folders)


def _check(run: Path, lines: Iterable[PlannedLine], folders_alone: bool = False) -> None:
    found: dict[str, list[str | None]] = {}
    for line in lines:
        if line.root is None:
            continue
        if line.root not in found and not Path(line.root).is_dir():
            raise BadInput(line.root, "is not there; requests name images in it", REMEDY.format(run=run))
        absent = found.setdefault(line.root, [])
        if not folders_alone:
            absent += [None if is_there(Path(line.root), path) else path for path in _paths(line, "sources")]
    for root, sources in found.items():
        absent_paths = [path for path in sources if path is not None]
        if 2 * len(absent_paths) > len(sources):
            fault = f"lacks {len(absent_paths)} of {len(sources)} sources, {absent_paths[0][:100]!r} for one"
            remedy = "paths in a request file are relative to its folder; put the files there and start again"
            raise BadInput(root, fault, remedy)


def try_missing_again(run: Path, info: BuildInfo) -> int:
    """Takes back the parts that hold requests whose files were missing and are there now; returns how many these are.

    The caller holds the run's lock. Such a part is made anew from its requests on.
    """
    folders, again = request_folders(run, info), 0
    for part in range(info.n_parts):
        done = read_done(run, STAGE, part)
        if done is None:
            continue
        with suppress(DamagedFile):  # made anew whole
            if came := sum(_came(run, done, folders)):
                again += came
                done_path(run, STAGE, part).unlink()
                rows_path(run, STAGE, part).unlink()
    return again


def _came(run: Path, done: PartDone, folders: list[Path]) -> Iterator[bool]:
    """For each request of a part that lacked files, whether some of them came."""
    table = read_columns(run, STAGE, done.part, ["name", "kept", "reason", "record"])
    rows = [row for row in table.to_pylist() if f'"{MISSING}"' in row["record"]]
    if not rows:
        return
    lines = {line_name(line): line for line in read_plan(_plan_path(run, done.part), folders)}
    for row in rows:
        line = lines.get(row["name"])
        if line is None or line.root is None:
            continue
        root, candidates = Path(line.root), _paths(line, "candidates")
        if row["kept"]:
            faults = Sample.from_json(row["record"], thing=f"{STAGE}/{part_name(done.part)}.parquet").brought_faults
            lacked = [candidates[one.index] for one in faults if one.reason == MISSING and one.index < len(candidates)]
            yield any(is_there(root, path) for path in lacked)
        elif row["reason"] == MISSING:
            usable = not candidates or any(is_there(root, path) for path in candidates)
            yield usable and all(is_there(root, path) for path in _paths(line, "sources"))


def _paths(line: PlannedLine, field: str) -> list[str]:
    """The paths that a line names as its sources or candidates, as far as it is one."""
    entries = (line.line or {}).get(field)
    paths = [one.get("path") if isinstance(one, dict) else one for one in entries] if isinstance(entries, list) else []
    return [path for path in paths if isinstance(path, str)]


def _plan_path(run: Path, part: int) -> Path:
    return run / "plan" / f"{part_name(part)}.jsonl"
