"""The plan of a build: every request line, cut into parts before any work is done.

Lines go into the plan as they came; what is wrong with one becomes a reject in the first stage.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.run.folder import part_name
from runtime.files import sha256_of_file, write_whole
from schemas.errors import DamagedFile, printable
from schemas.manifest import BuildInfo

NAME_CHARS = 200
_ANEW = "bring it back from a copy, or make the run anew in another folder"


@dataclass(frozen=True)
class PlannedLine:
    """One line of the plan. place: for people, as `requests.jsonl:17`. file: which of the run's request files it is of.

    line: the fields as they came, or None with the `fault` that kept them from being read. scene: [seed, index,
    size_px, render]. duplicate_of: the place of an earlier line with the same id. root: the folder that its paths are
    relative to, where that is now; parts of the plan do not keep it, but those of earlier versions.
    """

    place: str
    file: int | None = None
    root: str | None = None
    line: dict[str, Any] | None = None
    fault: str | None = None
    scene: tuple[int, int, int, int] | None = None
    duplicate_of: str | None = None


def scene_lines(seed: int, count: int, size_px: int, renders: int = 1) -> Iterator[PlannedLine]:
    """The lines of `count` procedural scenes, `renders` of each; each is rendered when its part runs."""
    for index in range(count):
        for render in range(renders):
            place = f"scene {seed}/{index}, render {render}"
            yield PlannedLine(place=place, scene=(seed, index, size_px, render))


def write_plan(run: Path, sources: Iterable[Iterable[PlannedLine]], part_requests: int) -> int:
    """Writes every line into `plan/`, `part_requests` to a part, no part over two sources; returns the part count.

    Parts that are there, of an attempt that a bad request file ended, are removed first.
    """
    for left in (run / "plan").glob("part-*.jsonl"):
        left.unlink()
    places: dict[str, str] = {}
    part = 0
    for source in sources:
        lines = (_marked(line, places) for line in source)
        while chunk := list(islice(lines, part_requests)):
            text = "".join(json.dumps(_kept(line), ensure_ascii=True) + "\n" for line in chunk)
            write_whole(run / "plan" / f"{part_name(part)}.jsonl", text)
            part += 1
    return part


def _kept(line: PlannedLine) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if name != "root"}


def _marked(line: PlannedLine, places: dict[str, str]) -> PlannedLine:
    """`line`, marked where an earlier one has its id."""
    name = line.line.get("id") if line.line else None
    if not isinstance(name, str):
        return line
    first = places.setdefault(name, line.place)
    return line if first == line.place else replace(line, duplicate_of=first)


def line_name(planned: PlannedLine) -> str:
    """What rejects call a line: its id, or its place where it has none."""
    name = planned.line.get("id") if planned.line else None
    return printable(name[:NAME_CHARS]) if isinstance(name, str) and name.strip() else planned.place[:NAME_CHARS]


def read_plan(path: Path, folders: Sequence[Path] = ()) -> Iterator[PlannedLine]:
    """The lines of one part of the plan. folders: of the run's request files, in their order. Raises: DamagedFile."""
    _require_file(path)
    with path.open(encoding="utf-8") as file:
        try:
            yield from (_planned(json.loads(text), folders) for text in file)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            thing = f"plan/{path.name}"
            raise DamagedFile(thing, f"is no part of a plan ({type(error).__name__})", _ANEW) from None


def plan_digest(run: Path) -> str:
    """sha256 over the parts of a run's plan. Raises: DamagedFile."""
    digest = sha256()
    for path in sorted((run / "plan").glob("part-*.jsonl")):
        _require_file(path)
        digest.update(sha256_of_file(path).encode())
    return digest.hexdigest()


def check_plan(run: Path, info: BuildInfo) -> None:
    """Raises: DamagedFile where the plan is not as it was written; one of an earlier version may be so."""
    if info.plan and info.plan != plan_digest(run):
        raise DamagedFile(str(run / "plan"), "is not as it was written (its digest differs)", _ANEW)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DamagedFile(f"plan/{path.name}", "is missing, or is no file", _ANEW)


def _planned(fields: dict[str, Any], folders: Sequence[Path]) -> PlannedLine:
    scene, number = fields.pop("scene"), fields.get("file")
    root = fields.pop("root", None) if number is None else str(folders[number])
    return PlannedLine(**fields, root=root, scene=tuple(scene) if scene else None)
