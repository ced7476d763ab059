"""Bends one place of requests, run folders, datasets and annotations, again and again: `make bends`.

Each strike draws what to bend and how (`tests/cases/bendings.py`, `bending_files.py`), works on in this process and
compares with the unbent run: every other item byte-equal, the bent one right, a reject with its reason, or the file
refused by one line with an exit code; put right, the same command then ends with the same bytes. `python -m
tests.bends.run 300 --seed 1`; a strike alone: `--only 17`. Exit code 1 where there is a finding.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from runtime.checkout import checkout_commit
from tests.bends.annotations import ITEMS, strike_annotation
from tests.bends.folders import FILES, strike_dataset, strike_run
from tests.bends.grounds import Grounds
from tests.bends.outcome import FINDING, OUTCOMES, Struck
from tests.bends.requests import BYTES, FIELDS, PICTURES, strike_bytes, strike_fields, strike_picture
from tests.cases.bendings import FORMS, Kind
from tests.chaos.processes import Broken

Strike = Callable[[Grounds, Kind, Random], Struck]


@dataclass(frozen=True)
class Ground:
    """Something to bend. share: how often it is drawn."""

    name: str
    kinds: Sequence[Kind]
    strike: Strike
    share: int


@dataclass(frozen=True)
class Outcome:
    """What became of one strike."""

    number: int
    ground: str
    kind: str
    what: str
    outcome: str
    said: str
    seconds: float


def _of_form(strike: Callable[[Grounds, str, Kind, Random], Struck], form: str) -> Strike:
    return lambda grounds, kind, chance: strike(grounds, form, kind, chance)


def _of_run(finished: bool) -> Strike:
    return lambda grounds, kind, chance: strike_run(grounds, finished, kind, chance)


GROUNDS = (
    *(Ground(f"a request, {form}", FIELDS, _of_form(strike_fields, form), 2) for form in FORMS),
    *(Ground(f"requests.{form}", BYTES[form], _of_form(strike_bytes, form), 2) for form in FORMS),
    Ground("a picture", PICTURES, strike_picture, 5),
    Ground("a run that was stopped", FILES, _of_run(False), 4),
    Ground("a finished run", FILES, _of_run(True), 5),
    Ground("a dataset", FILES, strike_dataset, 3),
    Ground("an annotation", ITEMS, strike_annotation, 4),
)


def drawn(number: int, seed: int) -> tuple[Ground, Kind, Random]:
    """The `number`th strike of a seed: where, how, and the source of chance for the rest."""
    chance = Random(f"{seed}/{number}")
    (ground,) = chance.choices(GROUNDS, [one.share for one in GROUNDS])
    return ground, chance.choice(ground.kinds), chance


def strike(grounds: Grounds, number: int, seed: int) -> Outcome:
    """Strikes once."""
    ground, kind, chance = drawn(number, seed)
    started, grounds.what = time.monotonic(), ""
    try:
        struck = ground.strike(grounds, kind, chance)
    except Broken as broken:
        struck = Struck(grounds.what, FINDING, str(broken))
    seconds = round(time.monotonic() - started, 2)
    return Outcome(number, ground.name, kind.name, struck.what, struck.outcome, struck.said, seconds)


def strikes(folder: Path, numbers: Sequence[int], seed: int) -> Iterator[Outcome]:
    """Strikes as often as asked; what a strike worked on goes, but where it found something."""
    grounds = Grounds(folder)
    _ = grounds.datasets, grounds.samples, grounds.half
    for number in numbers:
        outcome = strike(grounds, number, seed)
        if outcome.outcome != FINDING:
            for place in folder.glob("place-*"):
                shutil.rmtree(place)
        yield outcome


def show(outcomes: Sequence[Outcome]) -> None:
    """The table of results, and each finding."""
    table = Table("bent", *OUTCOMES, "", title="bends")
    for ground in [*(one.name for one in GROUNDS), "all"]:
        found = Counter(one.outcome for one in outcomes if ground in (one.ground, "all"))
        table.add_row(ground, *(str(found[name] or "") for name in OUTCOMES), str(found.total()))
    console = Console(width=140)
    console.print(table, markup=False)
    for one in outcomes:
        if one.outcome == FINDING:
            console.print(
                f"{one.number} {one.ground} ({one.what}), {one.kind}: {one.said}", markup=False, soft_wrap=True
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Strikes as often as asked; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bends.run", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=300, help="how often [default: 300]")
    parser.add_argument("--seed", type=int, default=1, help="another draws others [default: 1]")
    parser.add_argument("--only", type=int, action="append", help="these strikes of the seed alone")
    parser.add_argument("--keep", type=Path, default=None, help="a folder to work in, which stays")
    parser.add_argument("--json", type=Path, default=None, help="where the results are written, too")
    given = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        for one in strikes(folder, given.only or range(given.count), given.seed):
            outcomes.append(one)
            print(
                f"{one.number} {one.ground}, {one.kind}: {one.outcome}, {one.seconds:g} s", file=sys.stderr, flush=True
            )
    show(outcomes)
    if given.json:
        rows = {"commit": checkout_commit(), "seed": given.seed, "strikes": [asdict(one) for one in outcomes]}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(one.outcome == FINDING for one in outcomes) else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a strike that hung has a thread that nobody can end
