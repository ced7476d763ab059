"""The plan of a build: every request line, cut into parts before any work is done.

Lines go into the plan as they came; what is wrong with one becomes a reject in the first stage.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.run.folder import part_name
from runtime.files import write_whole
from schemas.errors import printable

NAME_CHARS = 200


@dataclass(frozen=True)
class PlannedLine:
    """One line of the plan. place: for people, as `requests.jsonl:17`. root: the folder its paths are relative to.

    line: the fields as they came, or None with the `fault` that kept them from being read. scene: [seed, index,
    size_px, render]. duplicate_of: the place of an earlier line with the same id.
    """

    place: str
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
            text = "".join(json.dumps(asdict(line), ensure_ascii=True) + "\n" for line in chunk)
            write_whole(run / "plan" / f"{part_name(part)}.jsonl", text)
            part += 1
    return part


def _marked(line: PlannedLine, places: dict[str, str]) -> PlannedLine:
    """`line`, marked where an earlier one has its id."""
    name = line.line.get("id") if line.line else None
    if not isinstance(name, str):
        return line
    first = places.setdefault(name, line.place)
    return line if first == line.place else PlannedLine(**{**asdict(line), "duplicate_of": first})


def line_name(planned: PlannedLine) -> str:
    """What rejects call a line: its id, or its place where it has none."""
    name = planned.line.get("id") if planned.line else None
    return printable(name[:NAME_CHARS]) if isinstance(name, str) and name.strip() else planned.place[:NAME_CHARS]


def read_plan(path: Path) -> Iterator[PlannedLine]:
    """The lines of one part of the plan."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            fields = json.loads(text)
            scene = fields.pop("scene")
            yield PlannedLine(**fields, scene=tuple(scene) if scene else None)
