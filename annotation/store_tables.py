"""The tables of the annotation store, and what makes a file of the present version of nothing or of an older one.

    ledger        which candidate was meant for, and placed in, which project: (project, candidate, event) once
    sent          what the answers to a task are read by: size of its image and regions: (project, candidate) once
    annotations   every annotation as received: (id, updated_at) once; `seq` grows in the order of arrival, with gaps
    rankings      every ranking of a request's candidates as received, in the same way
    rejects       every answer that could not be used, with its reason: (project, annotation, updated_at, reason) once
    dropped       every part of a kept answer that could not be used: (project, annotation, updated_at, part) once
    cursors       how far each project was read, with the answers up to there in the same transaction; the last counts
    secrets       the key of the pseudonyms, made when it is first needed
    snapshots     a name for everything that had arrived: the highest `seq` of annotations and of rankings at that time

In `ledger` and `sent` a task that ranks the candidates of a request has the request's id in the candidate's place.

Rows are never changed and never go: triggers refuse it.
"""

VERSION = 4
_TABLES = (
    """CREATE TABLE ledger (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, candidate TEXT NOT NULL,
        event TEXT NOT NULL CHECK (event IN ('intended', 'placed')), task TEXT, at TEXT,
        CHECK ((event = 'placed') = (task IS NOT NULL)), UNIQUE (project, candidate, event))""",
    """CREATE TABLE annotations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, updated_at TEXT NOT NULL,
        candidate TEXT NOT NULL, rater TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (id, updated_at))""",
    "CREATE INDEX annotations_by_candidate ON annotations (candidate, seq)",
    "CREATE TABLE snapshots (name TEXT PRIMARY KEY NOT NULL, high_water INTEGER NOT NULL, origin TEXT NOT NULL)",
)
_TABLES_2 = (
    """CREATE TABLE sent (
        project TEXT NOT NULL, candidate TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (project, candidate))""",
    """CREATE TABLE rejects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, annotation TEXT NOT NULL,
        updated_at TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
        UNIQUE (project, annotation, updated_at, reason))""",
    "CREATE TABLE cursors (seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, cursor TEXT NOT NULL)",
    "CREATE TABLE secrets (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
)


def _guards(*tables: str) -> tuple[str, ...]:
    """Triggers that refuse whatever is not an addition."""
    refuse = "BEGIN SELECT RAISE(ABORT, '{} only grows'); END"
    return tuple(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} {refuse.format(table)}"
        for table in tables
        for verb in ("update", "delete")
    )


_TABLES_3 = (
    """CREATE TABLE rankings (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, updated_at TEXT NOT NULL,
        request TEXT NOT NULL, rater TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (id, updated_at))""",
    "CREATE INDEX rankings_by_request ON rankings (request, seq)",
    "ALTER TABLE snapshots ADD COLUMN rankings INTEGER NOT NULL DEFAULT 0",
)
_TABLES_4 = (
    """CREATE TABLE dropped (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, annotation TEXT NOT NULL,
        updated_at TEXT NOT NULL, part TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
        UNIQUE (project, annotation, updated_at, part))""",
)
_TO_2 = (*_TABLES_2, *_guards("sent", "rejects", "cursors", "secrets"))
_TO_3 = (*_TABLES_3, *_guards("rankings"))
_TO_4 = (*_TABLES_4, *_guards("dropped"))
#: What makes a file of this version of nothing, and of a file of each older version.
STATEMENTS_FROM = {
    0: (*_TABLES, *_guards("ledger", "annotations", "snapshots"), *_TO_2, *_TO_3, *_TO_4),
    1: ("ALTER TABLE ledger ADD COLUMN at TEXT", *_TO_2, *_TO_3, *_TO_4),
    2: (*_TO_3, *_TO_4),
    3: _TO_4,
}
