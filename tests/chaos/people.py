"""The commands that speak to Label Studio, `push` and `collect`, through a relay before a real one."""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from annotation.store import FILE_NAME, MAX_SEQ, open_store, store_path
from annotation.studio.link import require_link
from annotation.studio.server import Studio, asker
from pipeline.run.folder import read_build_info, read_kept
from tests.cases.builds import build as build_here
from tests.cases.relay import Relay
from tests.cases.studio_cases import IMAGE_NAMES, choice
from tests.chaos.command import Command, as_typed
from tests.chaos.commands import SCENES, copy, once
from tests.chaos.processes import Broken, start

#: Answers wait so long in the relay, where their command can be struck.
HELD_S = 0.05
#: Tasks in one import, so that there are several.
BATCH = 4


@dataclass(frozen=True)
class People:
    """A Label Studio, and the relay that commands find it by. folder: where what commands start from is made."""

    studio: Studio
    relay: Relay
    folder: Path

    def reached(self) -> list[str]:
        """Words of a command that say where the server is."""
        return ["--studio", str(self.studio.data), "--url", self.relay.url]

    def tasks(self, run: Path) -> list[Mapping[str, Any]]:
        """The tasks of all projects of a run, asked past the relay."""
        ask, found = asker(self.studio), list[Mapping[str, Any]]()
        for project in require_link(run).projects.values():
            found += ask("GET", f"/api/tasks/?project={project}&page_size=1000&fields=all", None)["tasks"]
        return found

    def answer(self, task: Mapping[str, Any], level: int) -> None:
        """Hands in an answer: the masks as they were sent, and a level for every question about the image."""
        result = [*task["predictions"][0]["result"], *(choice(name, str(level)) for name in IMAGE_NAMES)]
        body = {"result": result, "lead_time": 1.5}
        asker(self.studio)("POST", f"/api/tasks/{task['id']}/annotations/", body)


def push(people: People) -> Command:
    """`push` of a finished run in several imports, into a project of its own."""
    finished = once(people.folder, "scenes", lambda folder: build_here(folder / "run", SCENES))
    title = f"chaos {uuid4().hex}"

    def words(place: Path) -> list[str]:
        return ["push", "--run", str(place / "run"), *people.reached(), "--title", title, "--batch", str(BATCH)]

    return Command(
        name="push",
        prepare=lambda place: copy(finished, place),
        words=words,
        progress=lambda _: people.relay.answered,
        kept=lambda place: len(_ledger(place)),
        made=lambda place: _sent(people, place),
        moments=(2, 8),
        tight_bytes=60_000,
    )


@contextmanager
def _store_copied(place: Path) -> Iterator[Path]:
    """A copy of a run's annotations as they are now: SQLite would look for those of a `SmallDisk` beside it."""
    with TemporaryDirectory() as folder:
        for path in (place / "run").glob(f"{FILE_NAME}*"):
            shutil.copy(path, folder)
        with open_store(store_path(Path(folder)), create=True):  # what was left half written is taken back
            pass
        yield store_path(Path(folder))


def _ledger(place: Path) -> dict[str, str]:
    """The id on the server by candidate of all that was sent."""
    with _store_copied(place) as path, closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT candidate, task FROM ledger WHERE event = 'placed'"))


def _sent(people: People, place: Path) -> object:
    """The candidates of all tasks on the server. Raises: Broken where they are not those of the run and its ledger."""
    run, known = place / "run", _ledger(place)
    there = people.tasks(run)
    parts = range(read_build_info(run).n_parts)
    kept = sorted(row.candidate.id for part in parts for row in read_kept(run, "gates", part) if row.candidate)
    candidates = sorted(task["data"]["candidate"] for task in there)
    if candidates != kept or known != {task["data"]["candidate"]: str(task["id"]) for task in there}:
        raise Broken(f"{len(kept)} candidates, {len(known)} in the ledger, {len(candidates)} tasks on the server")
    return candidates


def collect(people: People) -> Command:
    """`collect` of the answers to all tasks but one, which is in the store already; nothing on the server changes."""
    answered = once(people.folder, "answered", lambda folder: _answered(people, folder))

    def answers(place: Path) -> list[str]:
        with _store_copied(place) as path, open_store(path) as store:
            rows = [row for name in sorted(store.rated(MAX_SEQ)) for row in store.annotations(name, MAX_SEQ)]
        return [row.model_dump_json() for row in rows]

    return Command(
        name="collect",
        prepare=lambda place: copy(answered, place),
        words=lambda place: ["collect", "--run", str(place / "run"), *people.reached()],
        progress=lambda _: people.relay.answered,
        kept=lambda place: len(answers(place)),
        made=answers,
        moments=(3, 5),
        tight_bytes=4_096,
    )


def _answered(people: People, place: Path) -> None:
    """A run that was pushed; one answer is collected, the others wait on the server."""
    sending = push(people)
    sending.prepare(place)
    start(as_typed(sending.words(place)), {}).end().require_done()
    tasks = people.tasks(place / "run")
    people.answer(tasks[0], 3)
    start(as_typed(["collect", "--run", str(place / "run"), *people.reached()]), {}).end().require_done()
    for number, task in enumerate(tasks[1:]):
        people.answer(task, number % 5)


SPEAKERS = {"push": push, "collect": collect}
