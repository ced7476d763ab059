"""The annotations of a run: one append-only SQLite file, `annotations.sqlite`.

    ledger        which candidate was meant for, and placed in, which project: (project, candidate, event) once
    annotations   every annotation as received: (id, updated_at) once; `seq` grows in the order of arrival, with gaps
    snapshots     a name for everything that had arrived: the highest `seq` at that time

Rows are never changed and never go (triggers refuse it). Every write is one whole transaction that begins by taking the
file for itself, so processes write one after another and no lower `seq` can turn up behind a snapshot. Reading never
waits for more than a write. SQLite's default journal is kept: it works on any one machine's file system, and the file
is whole by itself.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from schemas.errors import BadInput, DamagedFile, NewerSchema, RunInUse
from schemas.score import Annotation, SnapshotName

FILE_NAME = "annotations.sqlite"
VERSION = 1
BUSY_TIMEOUT_S = 60.0
MAX_SEQ = 2**63 - 1
_TABLES = (
    """CREATE TABLE ledger (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, candidate TEXT NOT NULL,
        event TEXT NOT NULL CHECK (event IN ('intended', 'placed')), task TEXT,
        CHECK ((event = 'placed') = (task IS NOT NULL)), UNIQUE (project, candidate, event))""",
    """CREATE TABLE annotations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, updated_at TEXT NOT NULL,
        candidate TEXT NOT NULL, rater TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (id, updated_at))""",
    "CREATE INDEX annotations_by_candidate ON annotations (candidate, seq)",
    "CREATE TABLE snapshots (name TEXT PRIMARY KEY NOT NULL, high_water INTEGER NOT NULL, origin TEXT NOT NULL)",
)
_GUARDS = tuple(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{table} only grows'); END"
    for table in ("ledger", "annotations", "snapshots")
    for verb in ("update", "delete")
)
_SNAPSHOT_NAME: TypeAdapter[str] = TypeAdapter(SnapshotName)


@dataclass(frozen=True)
class Snapshot:
    """Everything up to `high_water`. origin: how its maker describes it, so that making it again can be told apart."""

    name: str
    high_water: int
    origin: str


def store_path(run: Path) -> Path:
    """Where a run's annotations lie."""
    return run / FILE_NAME


def check_snapshot_name(name: str) -> str:
    """The name, if it is one. Raises: BadInput."""
    try:
        return _SNAPSHOT_NAME.validate_python(name)
    except ValidationError:
        raise BadInput(f"snapshot {name[:80]!r}", "is no name", "use a-z, 0-9, - and _, at most 64") from None


@contextmanager
def open_store(path: Path, *, create: bool = False) -> Iterator["AnnotationStore"]:
    """The store at `path`, for one thread. Raises: BadInput where there is none, DamagedFile, RunInUse."""
    if not create and not path.is_file():
        raise BadInput(str(path.parent), "has no annotations", "make some with `regionwise rate`")
    with _faults(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        store = AnnotationStore(connection)
        store.prepare(path)
        yield store


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """SQLite's errors as one line that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise RunInUse(str(path), f"was held for {BUSY_TIMEOUT_S:g} s by another process", "wait for it") from None
        raise DamagedFile(str(path), f"cannot be used: {error}", "bring it back from a copy") from None


class AnnotationStore:
    """An open store; get one from `open_store`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def prepare(self, path: Path) -> None:
        """Makes the tables of a new file. Raises: NewerSchema for a file of a later version."""
        if self._version() == 0:
            with self._whole():
                if self._version() == 0:
                    for statement in (*_TABLES, *_GUARDS, f"PRAGMA user_version = {VERSION}"):
                        self._connection.execute(statement)
        if self._version() > VERSION:
            raise NewerSchema(str(path), f"has version {self._version()}; this one reads up to {VERSION}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """One transaction that has the file to itself from its start; an error leaves nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def intend(self, project: str, candidates: Iterable[str]) -> list[str]:
        """Writes down which candidates are about to be sent, and returns those that nobody had written down before."""
        with self._whole():
            return [name for name in candidates if self._note(project, name, "intended", None)]

    def place(self, project: str, tasks: Iterable[tuple[str, str]]) -> int:
        """Writes down (candidate, task id) pairs that were sent, and returns how many are new."""
        with self._whole():
            return sum(self._note(project, candidate, "placed", task) for candidate, task in tasks)

    def _note(self, project: str, candidate: str, event: str, task: str | None) -> int:
        statement = "INSERT INTO ledger (project, candidate, event, task) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self._connection.execute(statement, (project, candidate, event, task)).rowcount

    def tasks(self, project: str) -> dict[str, str]:
        """Task id by candidate of everything placed in a project, in the order of placing."""
        statement = "SELECT candidate, task FROM ledger WHERE project = ? AND event = 'placed' ORDER BY seq"
        return dict(self._connection.execute(statement, (project,)).fetchall())

    def add(self, annotations: Sequence[Annotation]) -> int:
        """Keeps annotations, all or none, and returns how many are new; the same answer again is nothing new.

        Raises: BadInput where one has the id and time of a stored one, and says something else.
        """
        with self._whole():
            return sum(self._add(annotation) for annotation in annotations)

    def _add(self, annotation: Annotation) -> int:
        key, record = (annotation.id, annotation.updated_at), annotation.model_dump_json()
        statement = """INSERT INTO annotations (id, updated_at, candidate, rater, record) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING"""
        scores = annotation.scores
        if self._connection.execute(statement, (*key, scores.candidate, scores.rater, record)).rowcount:
            return 1
        statement = "SELECT record FROM annotations WHERE id = ? AND updated_at = ?"
        if self._connection.execute(statement, key).fetchone()[0] != record:
            fault = f"was received before, with the same time {annotation.updated_at} and other answers"
            raise BadInput(f"annotation {annotation.id}", fault, "an answer that changes must have a later time")
        return 0

    def annotations(self, candidate: str, high_water: int) -> list[Annotation]:
        """All that had arrived on a candidate up to `high_water`, every version, in the order of arrival."""
        statement = "SELECT record FROM annotations WHERE candidate = ? AND seq <= ? ORDER BY seq"
        records = self._connection.execute(statement, (candidate, high_water)).fetchall()
        return [Annotation.from_json(record, thing="annotation") for (record,) in records]

    def rated(self, high_water: int) -> set[str]:
        """The candidates of which anything had arrived up to `high_water`."""
        statement = "SELECT DISTINCT candidate FROM annotations WHERE seq <= ?"
        return {candidate for (candidate,) in self._connection.execute(statement, (high_water,))}

    def count(self, high_water: int = MAX_SEQ) -> int:
        """How many annotations had arrived up to `high_water`, every version counted."""
        statement = "SELECT count(*) FROM annotations WHERE seq <= ?"
        return int(self._connection.execute(statement, (high_water,)).fetchone()[0])

    def find_snapshot(self, name: str) -> Snapshot | None:
        """The snapshot of that name, or None."""
        statement = "SELECT name, high_water, origin FROM snapshots WHERE name = ?"
        row = self._connection.execute(statement, (name,)).fetchone()
        return Snapshot(*row) if row else None

    def snapshot(self, name: str) -> Snapshot:
        """The snapshot of that name. Raises: BadInput, naming those that there are."""
        found = self.find_snapshot(name)
        if found is None:
            names = [row[0] for row in self._connection.execute("SELECT name FROM snapshots ORDER BY name")]
            there = (
                f"there are: {', '.join(names[:10])}" if names else "there is none yet: make one with `regionwise rate`"
            )
            raise BadInput(f"snapshot {name[:80]!r}", "is not known", there)
        return found

    def take_snapshot(self, name: str, origin: str = "") -> Snapshot:
        """Gives everything up to now a name. Raises: BadInput where the name means something else already."""
        check_snapshot_name(name)
        with self._whole():
            now = int(self._connection.execute("SELECT coalesce(max(seq), 0) FROM annotations").fetchone()[0])
            found, wanted = self.find_snapshot(name), Snapshot(name, now, origin)
            if found is not None and found != wanted:
                raise BadInput(f"snapshot {name}", "exists and is of other annotations", "give another name")
            if found is None:
                self._connection.execute("INSERT INTO snapshots VALUES (?, ?, ?)", (name, now, origin))
        return wanted
