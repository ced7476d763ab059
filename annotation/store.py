"""The annotations of a run: one append-only SQLite file, `annotations.sqlite` (`annotation.store_tables`).

A rater is `person:` and a keyed hash (HMAC-SHA256) of the user's identity on the server. The key is in this file alone:
whoever has the file can find out which user is meant, as one must be able to (a rater who answers at random needs to
hear of it); whoever has only what is derived from it cannot. So the file is readable by its owner alone (0600) once it
has a key.

Rows are never changed and never go (triggers refuse it). Every write is one whole transaction that begins by taking the
file for itself, so processes write one after another and no lower `seq` can turn up behind a snapshot. Reading never
waits for more than a write. SQLite's default journal is kept: it works on any one machine's file system, and the file
is whole by itself.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from annotation.client import Answer, AnySentTask, Page, RejectedAnnotation, SentRanking, SentTask
from annotation.pseudonyms import new_pseudonym_key, pseudonym_of
from annotation.snapshots import Snapshot, check_snapshot_name
from annotation.store_faults import named_faults
from annotation.store_tables import STATEMENTS_FROM, VERSION
from runtime.locks import locked_file
from schemas.errors import BadInput, NewerSchema, RunInUse
from schemas.ranking import Ranking
from schemas.score import Annotation

FILE_NAME = "annotations.sqlite"
BUSY_TIMEOUT_S = 60.0
#: How long a sender waits for its turn; others send a batch at a time.
TURN_TIMEOUT_S = 900.0
MAX_SEQ = 2**63 - 1


def store_path(run: Path) -> Path:
    """Where a run's annotations lie."""
    return run / FILE_NAME


@contextmanager
def open_store(path: Path, *, create: bool = False) -> Iterator["AnnotationStore"]:
    """The store at `path`, for one thread. Raises: BadInput where there is none, and as `named_faults`."""
    if not create and not path.is_file():
        raise BadInput(str(path.parent), "has no annotations", "make some with `regionwise rate`")
    with (
        named_faults(path, BUSY_TIMEOUT_S),
        closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA synchronous = FULL")
        store = AnnotationStore(connection, path)
        store.prepare(path)
        yield store


class AnnotationStore:
    """An open store; get one from `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def prepare(self, path: Path) -> None:
        """Makes what is missing in a new or an older file. Raises: NewerSchema for a file of a later version."""
        if self._version() < VERSION:
            with self._whole():
                for statement in STATEMENTS_FROM.get(self._version(), ()):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
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
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # on a full disk SQLite has ended it already
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def turn(self, timeout_s: float = TURN_TIMEOUT_S) -> Iterator[None]:
        """The turn to send: one process at a time, whoever dies gives it back. Raises: RunInUse after `timeout_s`."""
        fault = f"is sent from by another process, for {timeout_s:g} s already"
        in_use = RunInUse(str(self._path), fault, "wait for it")
        with locked_file(Path(f"{self._path}.sending.lock"), lambda: in_use, timeout_s):
            yield

    def remember(self, project: str, tasks: Iterable[AnySentTask]) -> None:
        """Keeps what the answers to these tasks are read by, before they are sent; what is there stays."""
        statement = "INSERT INTO sent (project, candidate, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self._whole():
            for task in tasks:
                self._connection.execute(statement, (project, task.key, task.model_dump_json()))

    def sent(self, project: str, candidate: str) -> tuple[SentTask, str] | None:
        """A task that was placed in a project, and its id there; None for a candidate that was not."""
        row = self._sent(project, candidate)
        return (SentTask.model_validate_json(row[0]), row[1]) if row else None

    def sent_ranking(self, project: str, request: str) -> tuple[SentRanking, str] | None:
        """A ranking task that was placed in a project, and its id there; None for a request that was not."""
        row = self._sent(project, request)
        return (SentRanking.model_validate_json(row[0]), row[1]) if row else None

    def _sent(self, project: str, key: str) -> tuple[str, str] | None:
        statement = """SELECT record, task FROM sent JOIN ledger USING (project, candidate)
            WHERE project = ? AND candidate = ? AND event = 'placed'"""
        row = self._connection.execute(statement, (project, key)).fetchone()
        return (str(row[0]), str(row[1])) if row else None

    def in_doubt(self, project: str) -> dict[str, datetime]:
        """The candidates that were written down and never placed, with the time; they may have been sent."""
        statement = """SELECT candidate, at FROM ledger AS meant WHERE project = ? AND event = 'intended' AND NOT EXISTS
            (SELECT 1 FROM ledger WHERE project = meant.project AND candidate = meant.candidate AND event = 'placed')"""
        rows = self._connection.execute(statement, (project,)).fetchall()
        return {
            candidate: datetime.fromisoformat(at) if at else datetime.min.replace(tzinfo=UTC) for candidate, at in rows
        }

    def intend(self, project: str, candidates: Iterable[str]) -> list[str]:
        """Writes down which candidates are about to be sent, and returns those that nobody had written down before."""
        with self._whole():
            return [name for name in candidates if self._note(project, name, "intended", None)]

    def place(self, project: str, tasks: Iterable[tuple[str, str]]) -> int:
        """Writes down (candidate, task id) pairs that were sent, and returns how many are new."""
        with self._whole():
            return sum(self._note(project, candidate, "placed", task) for candidate, task in tasks)

    def _note(self, project: str, candidate: str, event: str, task: str | None) -> int:
        statement = """INSERT INTO ledger (project, candidate, event, task, at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING"""
        now = datetime.now(UTC).isoformat()
        return self._connection.execute(statement, (project, candidate, event, task, now)).rowcount

    def tasks(self, project: str) -> dict[str, str]:
        """Task id by candidate of everything placed in a project, in the order of placing."""
        statement = "SELECT candidate, task FROM ledger WHERE project = ? AND event = 'placed' ORDER BY seq"
        return dict(self._connection.execute(statement, (project,)).fetchall())

    def add(self, annotations: Sequence[Answer]) -> int:
        """Keeps answers, all or none, and returns how many are new; the same answer again is nothing new.

        Raises: BadInput where one has the id and time of a stored one, and says something else.
        """
        with self._whole():
            return sum(self._add(annotation) for annotation in annotations)

    def _add(self, annotation: Answer) -> int:
        key, record = (annotation.id, annotation.updated_at), annotation.model_dump_json()
        if isinstance(annotation, Ranking):
            table, column, about = "rankings", "request", annotation.request
        else:
            table, column, about = "annotations", "candidate", annotation.scores.candidate
        statement = f"""INSERT INTO {table} (id, updated_at, {column}, rater, record) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING"""
        if self._connection.execute(statement, (*key, about, annotation.rater, record)).rowcount:
            return 1
        statement = f"SELECT record FROM {table} WHERE id = ? AND updated_at = ?"
        if self._connection.execute(statement, key).fetchone()[0] != record:
            fault = f"was received before, with the same time {annotation.updated_at} and other answers"
            raise BadInput(f"annotation {annotation.id}", fault, "an answer that changes must have a later time")
        return 0

    def receive(self, project: str, page: Page) -> tuple[int, int]:
        """Keeps a page's annotations, rejects and cursor, all or none; returns how many of the first two are new.

        Parts of answers that were left out count as rejects.

        Raises: as `add`.
        """
        with self._whole():
            new = sum(self._add(annotation) for annotation in page.annotations)
            rejected = sum(self._reject(project, reject) for reject in page.rejects)
            if page.cursor != self.cursor(project):
                self._connection.execute("INSERT INTO cursors (project, cursor) VALUES (?, ?)", (project, page.cursor))
        return new, rejected

    def _reject(self, project: str, reject: RejectedAnnotation) -> int:
        row = {**reject.model_dump(include={"annotation", "updated_at", "reason"}), "project": project}
        row |= {"record": reject.model_dump_json()} | ({"part": reject.part} if reject.part else {})
        table, marks = "dropped" if reject.part else "rejects", ", ".join("?" * len(row))
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return self._connection.execute(statement, (*row.values(),)).rowcount

    def cursor(self, project: str) -> str | None:
        """How far a project was read, None where it never was."""
        statement = "SELECT cursor FROM cursors WHERE project = ? ORDER BY seq DESC LIMIT 1"
        row = self._connection.execute(statement, (project,)).fetchone()
        return str(row[0]) if row else None

    def rejects(self, project: str) -> list[RejectedAnnotation]:
        """Every answer of a project that could not be used, in the order of arrival."""
        return self._rejects("rejects", project)

    def dropped(self, project: str) -> list[RejectedAnnotation]:
        """Every part of a project's answers that was left out of what is kept of them, in the order of arrival."""
        return self._rejects("dropped", project)

    def _rejects(self, table: str, project: str) -> list[RejectedAnnotation]:
        statement = f"SELECT record FROM {table} WHERE project = ? ORDER BY seq"
        records = self._connection.execute(statement, (project,)).fetchall()
        return [RejectedAnnotation.model_validate_json(record) for (record,) in records]

    def pseudonym(self, identity: str) -> str:
        """`person:` and 16 hex digits that stand for a rater; the same for the same identity in this file alone."""
        return pseudonym_of(identity, self._pseudonym_key())

    def _pseudonym_key(self) -> bytes:
        row = self._connection.execute("SELECT value FROM secrets WHERE name = 'pseudonyms'").fetchone()
        if row:
            return bytes(row[0])
        self._path.chmod(0o600)
        with self._whole():
            statement = "INSERT INTO secrets (name, value) VALUES ('pseudonyms', ?) ON CONFLICT DO NOTHING"
            self._connection.execute(statement, (new_pseudonym_key(),))
        return self._pseudonym_key()

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

    def rankings(self, request: str, high_water: int) -> list[Ranking]:
        """All rankings of a request that had arrived up to `high_water`, every version, in the order of arrival."""
        statement = "SELECT record FROM rankings WHERE request = ? AND seq <= ? ORDER BY seq"
        records = self._connection.execute(statement, (request, high_water)).fetchall()
        return [Ranking.from_json(record, thing="ranking") for (record,) in records]

    def ranked(self, high_water: int) -> set[str]:
        """The requests of which any ranking had arrived up to `high_water`."""
        statement = "SELECT DISTINCT request FROM rankings WHERE seq <= ?"
        return {request for (request,) in self._connection.execute(statement, (high_water,))}

    def count_rankings(self, high_water: int = MAX_SEQ) -> int:
        """How many rankings had arrived up to `high_water`, every version counted."""
        statement = "SELECT count(*) FROM rankings WHERE seq <= ?"
        return int(self._connection.execute(statement, (high_water,)).fetchone()[0])

    def find_snapshot(self, name: str) -> Snapshot | None:
        """The snapshot of that name, or None."""
        statement = "SELECT name, high_water, origin, rankings FROM snapshots WHERE name = ?"
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
            now = {table: self._last(table) for table in ("annotations", "rankings")}
            found, wanted = self.find_snapshot(name), Snapshot(name, now["annotations"], origin, now["rankings"])
            if found is not None and found != wanted:
                raise BadInput(f"snapshot {name}", "exists and is of other annotations", "give another name")
            if found is None:
                statement = "INSERT INTO snapshots (name, high_water, origin, rankings) VALUES (?, ?, ?, ?)"
                self._connection.execute(statement, (name, wanted.high_water, origin, wanted.rankings))
        return wanted

    def _last(self, table: str) -> int:
        return int(self._connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0])
