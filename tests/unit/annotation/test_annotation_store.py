"""The annotation store: it only grows, keeps whole transactions, and several processes write to it at once."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from annotation.client import Page, RejectedAnnotation, SentRanking, SentTask
from annotation.snapshots import Snapshot
from annotation.store import FILE_NAME, open_store, store_path
from runtime.checkout import CHECKOUT
from schemas.errors import BadInput, DamagedFile, NewerSchema
from tests.cases.rater_cases import numbered, ranking

GOLDEN = CHECKOUT / "tests" / "golden"
LATER = "2026-02-01T00:00:00+00:00"
REQUEST = "f" * 16


SENT = SentTask(candidate="a" * 16, size_hw=(3, 4), regions=())
REJECT = RejectedAnnotation(
    task="7", annotation="70", updated_at=LATER, reason="bad_value", detail="success is '99'", received="{}"
)
PART = REJECT.model_copy(update={"part": "result[2]"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with three annotations and a snapshot `first` of them."""
    with open_store(store_path(tmp_path), create=True) as store:
        store.intend("p", ["c"])
        store.place("p", [("c", "1")])
        assert store.add([numbered(n) for n in range(3)]) == 3
        store.take_snapshot("first")
        store.remember("p", [SENT])
        store.receive("p", Page((), "1", False, (REJECT, PART)))
        store.pseudonym("me")
    return tmp_path / FILE_NAME


COLUMNS = {
    "ledger": "task = '2'",
    "sent": "record = ''",
    "annotations": "record = ''",
    "rejects": "reason = 'x'",
    "dropped": "reason = 'x'",
    "cursors": "cursor = ''",
    "secrets": "value = x'00'",
    "rankings": "record = ''",
    "snapshots": "high_water = 9",
}


@pytest.mark.parametrize("table", COLUMNS)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {}"])
def test_nothing_is_changed_and_nothing_goes(path: Path, table: str, statement: str) -> None:
    column = COLUMNS[table]
    with open_store(path) as store:
        store.add([ranking("ab")])
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError, match="only grows"):
        connection.execute(statement.format(table, column))
    connection.close()


def test_the_same_answer_is_stored_once_and_a_later_version_beside_it(path: Path) -> None:
    first = numbered(0)
    later = first.model_copy(update={"updated_at": LATER, "state": "deleted"})
    with open_store(path) as store:
        assert store.add([first, numbered(1), first]) == 0
        assert store.add([later]) == 1
        mark = store.take_snapshot("second").high_water
        assert store.annotations(first.scores.candidate, mark) == [first, later]
        assert store.annotations(first.scores.candidate, store.snapshot("first").high_water) == [first]
        assert store.count() == 4


def test_another_answer_with_the_same_time_is_refused_and_nothing_of_its_batch_stays(path: Path) -> None:
    with open_store(path) as store:
        with pytest.raises(BadInput, match=r"rater-0.*other answers"):
            store.add([numbered(3), numbered(4), numbered(0, score=25)])
        assert store.count() == 3
        assert store.add([numbered(3)]) == 1


def test_the_ledger_takes_each_candidate_of_a_project_once(path: Path) -> None:
    with open_store(path) as store:
        assert store.intend("p", ["c", "d", "d", "e"]) == ["d", "e"]
        assert store.intend("q", ["c"]) == ["c"]
        assert store.place("p", [("c", "2"), ("d", "3")]) == 1
        assert store.tasks("p") == {"c": "1", "d": "3"}
        assert store.tasks("q") == {}


def test_a_snapshot_keeps_its_meaning(path: Path) -> None:
    with open_store(path) as store:
        assert store.take_snapshot("first") == Snapshot("first", 3, "")
        with pytest.raises(BadInput, match="other annotations"):
            store.take_snapshot("first", "by others")
        store.add([numbered(5)])
        with pytest.raises(BadInput, match="other annotations"):
            store.take_snapshot("first")
        assert store.snapshot("first").high_water == 3
        with pytest.raises(BadInput, match="there are: first"):
            store.snapshot("second")
        for name in ("../up", "", "a/b", "A", "a" * 65, "a\n"):
            with pytest.raises(BadInput, match="is no name"):
                store.take_snapshot(name)


def test_a_run_without_annotations_is_not_given_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no annotations"), open_store(store_path(tmp_path)):
        pass
    assert not store_path(tmp_path).exists()


def test_a_file_that_is_no_store_or_of_a_later_version_is_named(path: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(NewerSchema, match="version 9"), open_store(path):
        pass
    other = tmp_path / "other.sqlite"
    other.write_text("this is no database, and it is long enough to be told apart from an empty file" * 20)
    with pytest.raises(DamagedFile, match="not a database"), open_store(other):
        pass


def test_a_page_is_kept_with_its_cursor_or_not_at_all(path: Path) -> None:
    with open_store(path) as store:
        assert store.cursor("q") is None
        assert store.receive("q", Page((numbered(3), numbered(4)), "a", True, (REJECT,))) == (2, 1)
        assert store.receive("q", Page((numbered(3),), "b", True, (REJECT,))) == (0, 0)
        with pytest.raises(BadInput, match="other answers"):
            store.receive("q", Page((numbered(5), numbered(0, score=25)), "c", True))
        assert (store.cursor("q"), store.count(), store.rejects("q")) == ("b", 5, [REJECT])
        assert (store.cursor("p"), store.rejects("p")) == ("1", [REJECT])
        rows = store._connection.execute("SELECT count(*) FROM cursors").fetchone()[0]
        store.receive("q", Page((), "b", False))
        assert store._connection.execute("SELECT count(*) FROM cursors").fetchone()[0] == rows


def test_what_was_meant_and_not_placed_is_in_doubt_and_only_what_was_placed_counts_as_sent(path: Path) -> None:
    before = datetime.now(UTC)
    with open_store(path) as store:
        assert store.in_doubt("p") == {}
        store.remember("p", [SENT, SENT.model_copy(update={"size_hw": (9, 9)})])
        store.intend("p", [SENT.candidate, "b"])
        assert store.sent("p", SENT.candidate) is None
        doubts = store.in_doubt("p")
        assert set(doubts) == {SENT.candidate, "b"}
        assert all(before <= at <= datetime.now(UTC) for at in doubts.values())
        store.place("p", [(SENT.candidate, "12")])
        assert store.sent("p", SENT.candidate) == (SENT, "12")
        assert set(store.in_doubt("p")) == {"b"}
        assert store.sent("q", SENT.candidate) is None


def test_a_file_of_version_1_is_upgraded_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "annotations-1.sql").read_text())
    columns = {"annotations": "*", "snapshots": "name, high_water, origin"}
    before = {table: connection.execute(f"SELECT {of} FROM {table}").fetchall() for table, of in columns.items()}
    connection.close()
    for _ in range(2):
        with open_store(path) as store:
            found = store.annotations("0" * 16, 10**6)
            assert [(one.state, one.scores.background) for one in found] == [("submitted", 13), ("deleted", 13)]
            assert store.snapshot("first") == Snapshot("first", 1, "golden")
            assert store.tasks("simulated-a") == {"0" * 16: "7"}
            assert store.in_doubt("simulated-a") == {"1" * 16: datetime.min.replace(tzinfo=UTC)}
            assert store.rejects("simulated-a") == []
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    after = {table: connection.execute(f"SELECT {of} FROM {table}").fetchall() for table, of in columns.items()}
    assert after == before
    upgraded = _schema(connection)
    connection.close()
    with open_store(tmp_path / "new.sqlite", create=True) as store:
        assert upgraded == _schema(store._connection)


def test_a_file_of_version_2_is_upgraded_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "annotations-2.sql").read_text())
    connection.close()
    for _ in range(2):
        with open_store(path) as store:
            assert [one.state for one in store.annotations("0" * 16, 10**6)] == ["submitted", "deleted"]
            assert store.snapshot("first") == Snapshot("first", 1, "golden", rankings=0)
            assert (store.cursor("p"), len(store.rejects("p"))) == ("cursor-1", 1)
            assert store.sent("p", "0" * 16) == (SentTask(candidate="0" * 16, size_hw=(3, 4), regions=()), "7")
            assert set(store.in_doubt("p")) == {"1" * 16}
            assert store.pseudonym("me") == "person:6366883a4471bcd6"
            assert store.count_rankings() == 0
            upgraded = _schema(store._connection)
    with open_store(tmp_path / "new.sqlite", create=True) as store:
        assert upgraded == _schema(store._connection)


def test_a_file_of_version_3_is_upgraded_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "annotations-3.sql").read_text())
    connection.close()
    for _ in range(2):
        with open_store(path) as store:
            assert [one.state for one in store.annotations("0" * 16, 10**6)] == ["submitted", "deleted"]
            (reject,) = store.rejects("p")
            assert (reject.part, store.dropped("p"), store.count_rankings()) == ("", [], 1)
            upgraded = _schema(store._connection)
    with open_store(tmp_path / "new.sqlite", create=True) as store:
        assert upgraded == _schema(store._connection)


def test_every_part_that_is_left_out_is_kept_once_beside_whole_rejects(path: Path) -> None:
    other = PART.model_copy(update={"part": "result[3]"})
    with open_store(path) as store:
        assert store.receive("q", Page((), "1", False, (PART, other, REJECT))) == (0, 3)
        assert store.receive("q", Page((), "2", False, (other, REJECT))) == (0, 0)
        assert (store.dropped("q"), store.rejects("q")) == ([PART, other], [REJECT])


def test_rankings_are_kept_beside_annotations_and_a_snapshot_is_of_both(path: Path) -> None:
    first = ranking("bac")
    later = first.model_copy(update={"updated_at": LATER, "state": "deleted"})
    with open_store(path) as store:
        assert store.receive("q", Page((first, numbered(3)), "1", False)) == (2, 0)
        assert store.receive("q", Page((first,), "2", False)) == (0, 0)
        mark = store.take_snapshot("second")
        assert mark == Snapshot("second", 4, "", rankings=1)
        assert store.add([later]) == 1
        assert store.rankings(REQUEST, mark.rankings) == [first]
        assert store.rankings(REQUEST, 10**6) == [first, later]
        assert store.ranked(10**6) == {REQUEST}
        assert REQUEST not in store.rated(10**6)
        assert (store.count(), store.count_rankings()) == (4, 2)
        with pytest.raises(BadInput, match="other annotations"):
            store.take_snapshot("second")
        with pytest.raises(BadInput, match="other answers"):
            store.add([ranking("abc")])


def test_what_a_ranking_is_read_by_is_kept(path: Path) -> None:
    sent = SentRanking(request=REQUEST, candidates=("a" * 16, "b" * 16))
    with open_store(path) as store:
        store.remember("q", [sent])
        store.intend("q", [REQUEST])
        assert store.sent_ranking("q", REQUEST) is None
        store.place("q", [(REQUEST, "3")])
        assert store.sent_ranking("q", REQUEST) == (sent, "3")


def _schema(connection: sqlite3.Connection) -> dict[str, list[str] | str]:
    """Every table's columns, and every trigger and index."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    tables = [name for kind, name, _ in rows if kind == "table"]
    columns = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in tables}
    return columns | {name: sql for kind, name, sql in rows if kind != "table"}
