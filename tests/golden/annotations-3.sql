BEGIN TRANSACTION;
CREATE TABLE annotations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, updated_at TEXT NOT NULL,
        candidate TEXT NOT NULL, rater TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (id, updated_at));
INSERT INTO "annotations" VALUES(1,'rater-1/0000000000000000','2026-01-02T03:04:05+00:00','0000000000000000','rater-1','{"schema":"annotation/1","id":"rater-1/0000000000000000","task":"t","scores":{"schema":"candidate-score/1","candidate":"0000000000000000","rater":"rater-1","synthetic":true,"regions":[{"region":"2222222222222222","success":13,"preserve":13,"issues":[]}],"background":13,"success":13,"overedit":13,"naturalness":13,"artifacts":13},"masks":[],"state":"submitted","comment":"","lead_time_s":null,"created_at":"2026-01-02T03:04:05+00:00","updated_at":"2026-01-02T03:04:05+00:00"}');
INSERT INTO "annotations" VALUES(2,'rater-1/0000000000000000','2026-02-01T00:00:00+00:00','0000000000000000','rater-1','{"schema":"annotation/1","id":"rater-1/0000000000000000","task":"t","scores":{"schema":"candidate-score/1","candidate":"0000000000000000","rater":"rater-1","synthetic":true,"regions":[{"region":"2222222222222222","success":13,"preserve":13,"issues":[]}],"background":13,"success":13,"overedit":13,"naturalness":13,"artifacts":13},"masks":[],"state":"deleted","comment":"","lead_time_s":null,"created_at":"2026-01-02T03:04:05+00:00","updated_at":"2026-02-01T00:00:00+00:00"}');
CREATE TABLE cursors (seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, cursor TEXT NOT NULL);
INSERT INTO "cursors" VALUES(1,'p','cursor-1');
CREATE TABLE ledger (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, candidate TEXT NOT NULL,
        event TEXT NOT NULL CHECK (event IN ('intended', 'placed')), task TEXT, at TEXT,
        CHECK ((event = 'placed') = (task IS NOT NULL)), UNIQUE (project, candidate, event));
INSERT INTO "ledger" VALUES(1,'p','0000000000000000','intended',NULL,'2026-01-02T03:04:05+00:00');
INSERT INTO "ledger" VALUES(2,'p','1111111111111111','intended',NULL,'2026-01-02T03:04:05+00:00');
INSERT INTO "ledger" VALUES(3,'p','0000000000000000','placed','7','2026-01-02T03:04:05+00:00');
CREATE TABLE rankings (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, updated_at TEXT NOT NULL,
        request TEXT NOT NULL, rater TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (id, updated_at));
INSERT INTO "rankings" VALUES(1,'rater-1/ffffffffffffffff','2026-01-02T03:04:05+00:00','ffffffffffffffff','rater-1','{"schema":"ranking/1","id":"rater-1/ffffffffffffffff","task":"t","request":"ffffffffffffffff","rater":"rater-1","synthetic":false,"candidates":["aaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbb"],"state":"submitted","comment":"","lead_time_s":null,"created_at":"2026-01-02T03:04:05+00:00","updated_at":"2026-01-02T03:04:05+00:00"}');
CREATE TABLE rejects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, annotation TEXT NOT NULL,
        updated_at TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
        UNIQUE (project, annotation, updated_at, reason));
INSERT INTO "rejects" VALUES(1,'p','70','2026-02-01T00:00:00+00:00','bad_value','{"task":"7","annotation":"70","updated_at":"2026-02-01T00:00:00+00:00","reason":"bad_value","detail":"success is ''99''","received":"{}"}');
CREATE TABLE secrets (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL);
INSERT INTO "secrets" VALUES('pseudonyms',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F');
CREATE TABLE sent (
        project TEXT NOT NULL, candidate TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (project, candidate));
INSERT INTO "sent" VALUES('p','0000000000000000','{"candidate":"0000000000000000","size_hw":[3,4],"regions":[]}');
CREATE TABLE snapshots (name TEXT PRIMARY KEY NOT NULL, high_water INTEGER NOT NULL, origin TEXT NOT NULL, rankings INTEGER NOT NULL DEFAULT 0);
INSERT INTO "snapshots" VALUES('first',1,'golden',0);
CREATE INDEX annotations_by_candidate ON annotations (candidate, seq);
CREATE TRIGGER ledger_no_update BEFORE update ON ledger BEGIN SELECT RAISE(ABORT, 'ledger only grows'); END;
CREATE TRIGGER ledger_no_delete BEFORE delete ON ledger BEGIN SELECT RAISE(ABORT, 'ledger only grows'); END;
CREATE TRIGGER annotations_no_update BEFORE update ON annotations BEGIN SELECT RAISE(ABORT, 'annotations only grows'); END;
CREATE TRIGGER annotations_no_delete BEFORE delete ON annotations BEGIN SELECT RAISE(ABORT, 'annotations only grows'); END;
CREATE TRIGGER snapshots_no_update BEFORE update ON snapshots BEGIN SELECT RAISE(ABORT, 'snapshots only grows'); END;
CREATE TRIGGER snapshots_no_delete BEFORE delete ON snapshots BEGIN SELECT RAISE(ABORT, 'snapshots only grows'); END;
CREATE TRIGGER sent_no_update BEFORE update ON sent BEGIN SELECT RAISE(ABORT, 'sent only grows'); END;
CREATE TRIGGER sent_no_delete BEFORE delete ON sent BEGIN SELECT RAISE(ABORT, 'sent only grows'); END;
CREATE TRIGGER rejects_no_update BEFORE update ON rejects BEGIN SELECT RAISE(ABORT, 'rejects only grows'); END;
CREATE TRIGGER rejects_no_delete BEFORE delete ON rejects BEGIN SELECT RAISE(ABORT, 'rejects only grows'); END;
CREATE TRIGGER cursors_no_update BEFORE update ON cursors BEGIN SELECT RAISE(ABORT, 'cursors only grows'); END;
CREATE TRIGGER cursors_no_delete BEFORE delete ON cursors BEGIN SELECT RAISE(ABORT, 'cursors only grows'); END;
CREATE TRIGGER secrets_no_update BEFORE update ON secrets BEGIN SELECT RAISE(ABORT, 'secrets only grows'); END;
CREATE TRIGGER secrets_no_delete BEFORE delete ON secrets BEGIN SELECT RAISE(ABORT, 'secrets only grows'); END;
CREATE INDEX rankings_by_request ON rankings (request, seq);
CREATE TRIGGER rankings_no_update BEFORE update ON rankings BEGIN SELECT RAISE(ABORT, 'rankings only grows'); END;
CREATE TRIGGER rankings_no_delete BEFORE delete ON rankings BEGIN SELECT RAISE(ABORT, 'rankings only grows'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('ledger',3);
INSERT INTO "sqlite_sequence" VALUES('annotations',2);
INSERT INTO "sqlite_sequence" VALUES('rejects',1);
INSERT INTO "sqlite_sequence" VALUES('cursors',1);
INSERT INTO "sqlite_sequence" VALUES('rankings',1);
COMMIT;
PRAGMA user_version = 3;
