"""Strikes every command that writes in every way, in the middle of its work: `make chaos-local`.

Pairs of {kill -9, SIGTERM, full disk, moved folder, second process} and {build, export, train-reward, train-policy,
push, collect}, with real processes, a real small disk and a real Label Studio. What is made in the end must be what an
unharmed command makes, byte for byte (the same weights, each task once, every answer), with no process left running,
nothing that was done lost, and one line where a command could not go on. `python -m tests.chaos.run --command build
--strike "kill -9"` tries some. Exit code 1 where a pair broke.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from annotation.studio.server import studio
from runtime.checkout import checkout_commit
from runtime.processes import free_port
from tests.cases.relay import Relay
from tests.chaos.command import Command
from tests.chaos.commands import build, export, once
from tests.chaos.people import HELD_S, SPEAKERS, People
from tests.chaos.processes import Broken
from tests.chaos.strikes import STRIKES, unharmed
from tests.chaos.trainings import train_policy, train_reward

WRITERS = {"build": build, "export": export, "train-reward": train_reward, "train-policy": train_policy}
COMMANDS = (*WRITERS, *SPEAKERS)


@dataclass(frozen=True)
class Outcome:
    """What became of one pair."""

    command: str
    strike: str
    held: bool
    what: str
    seconds: float


class Grounds:
    """The folder that everything happens in, and the Label Studio that is started for the first who needs it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._expected: dict[str, object] = {}

    @cached_property
    def people(self) -> People:
        """A Label Studio behind a relay that holds answers back."""
        running = self._stack.enter_context(studio(self.folder / "studio", port=free_port()))
        relay = self._stack.enter_context(Relay(running.url, delay_s=HELD_S))
        return People(running, relay, self.folder)

    def command(self, name: str) -> Command:
        """A command by its name."""
        if name in WRITERS:
            return WRITERS[name](partial(once, self.folder))
        return SPEAKERS[name](self.people)

    def expected(self, name: str) -> object:
        """What the command makes that nothing befalls."""
        if name not in self._expected:
            self._expected[name] = unharmed(self.command(name), self.folder / f"{name}-unharmed")
        return self._expected[name]


def try_pair(grounds: Grounds, name: str, strike: str) -> Outcome:
    """Strikes one command in one way."""
    expected, command = grounds.expected(name), grounds.command(name)
    started = time.monotonic()
    print(f"{strike} x {name}: ", end="", file=sys.stderr, flush=True)
    try:
        what, made = STRIKES[strike](command, grounds.folder / f"{name}-{strike.replace(' ', '-')}")
        held = made == expected
        what = what if held else f"made something else: {what}"
    except Broken as broken:
        held, what = False, str(broken)
    return Outcome(name, strike, held, what, round(time.monotonic() - started, 1))


def _word(outcome: Outcome) -> str:
    return "held" if outcome.held else "BROKE"


def show(outcomes: Sequence[Outcome]) -> None:
    """The table of results."""
    table = Table("pair", "", "what happened", "s", title="chaos")
    for one in outcomes:
        table.add_row(f"{one.strike} x {one.command}", _word(one), one.what, f"{one.seconds:g}")
    console = Console(width=180)
    console.print(table, markup=False)
    seconds = sum(one.seconds for one in outcomes)
    console.print(f"{sum(one.held for one in outcomes)} of {len(outcomes)} pairs held, {seconds / 60:.1f} min")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the pairs that are asked for, all without any; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--command", action="append", choices=COMMANDS, help="these commands alone")
    parser.add_argument("--strike", action="append", choices=[*STRIKES], help="these strikes alone")
    parser.add_argument("--json", type=Path, default=None, help="where the results are written, too")
    given = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        grounds = Grounds(Path(folder).resolve(), stack)
        for name in given.command or COMMANDS:
            for strike in given.strike or STRIKES:
                outcomes.append(try_pair(grounds, name, strike))
                print(f"{_word(outcomes[-1])}, {outcomes[-1].seconds:g} s", file=sys.stderr, flush=True)
    show(outcomes)
    if given.json:
        rows = {"commit": checkout_commit(), "pairs": [asdict(one) for one in outcomes]}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(one.held for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
