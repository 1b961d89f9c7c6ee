"""Tables. A change of any of them raises VERSION: another version's file is emptied and rebuilt.

Job ids are random, so whatever is kept by them is written all over the file. Events are most of it: they lie in the
order they come in, and only their index is by job.
"""

import sqlite3
from pathlib import Path

VERSION = 5

TABLES = """
CREATE TABLE jobs (
    tenant TEXT NOT NULL, job TEXT NOT NULL,
    name TEXT NOT NULL, state TEXT NOT NULL, epoch INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    record BLOB NOT NULL, record_seq INTEGER NOT NULL, detailed INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant, job)
) WITHOUT ROWID;
CREATE INDEX jobs_newest ON jobs (tenant, created_ns DESC, job DESC);
CREATE INDEX jobs_state ON jobs (tenant, state, created_ns DESC, job DESC);
CREATE INDEX jobs_name ON jobs (tenant, name, created_ns DESC, job DESC);
CREATE INDEX jobs_detailed ON jobs (created_ns) WHERE detailed = 1;
CREATE TABLE labels (
    tenant TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, created_ns INTEGER NOT NULL, job TEXT NOT NULL,
    PRIMARY KEY (tenant, key, value, created_ns, job)
) WITHOUT ROWID;
CREATE INDEX labels_job ON labels (tenant, job);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL,
    epoch INTEGER NOT NULL, type TEXT NOT NULL, time_ns INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX events_job ON events (tenant, job, seq);
CREATE INDEX events_time ON events (time_ns);
CREATE TABLE attempts (
    tenant TEXT NOT NULL, job TEXT NOT NULL, epoch INTEGER NOT NULL,
    cluster TEXT, machine TEXT, accepted_ns INTEGER, started_ns INTEGER, ended_ns INTEGER, ended BLOB,
    PRIMARY KEY (tenant, job, epoch)
) WITHOUT ROWID;
CREATE TABLE steps (
    tenant TEXT NOT NULL, job TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL,
    name TEXT NOT NULL, started_ns INTEGER, ready_ns INTEGER, ended BLOB,
    PRIMARY KEY (tenant, job, epoch, step)
) WITHOUT ROWID;
CREATE TABLE summaries (
    tenant TEXT NOT NULL, job TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL, markdown TEXT NOT NULL,
    PRIMARY KEY (tenant, job, epoch, step)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    tenant TEXT NOT NULL, job TEXT NOT NULL, epoch INTEGER NOT NULL, name TEXT NOT NULL, fact BLOB NOT NULL,
    PRIMARY KEY (tenant, job, epoch, name)
) WITHOUT ROWID;
CREATE TABLE kept (
    tenant TEXT NOT NULL, job TEXT NOT NULL, fact BLOB NOT NULL,
    PRIMARY KEY (tenant, job)
) WITHOUT ROWID;
CREATE TABLE gone (tenant TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (tenant, job)) WITHOUT ROWID;
CREATE TABLE orphans (
    tenant TEXT NOT NULL, job TEXT NOT NULL, time_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, job)
) WITHOUT ROWID;
CREATE INDEX orphans_time ON orphans (time_ns);
CREATE TABLE measures (
    tenant TEXT NOT NULL, created_ns INTEGER NOT NULL, job TEXT NOT NULL, seq INTEGER NOT NULL,
    state TEXT NOT NULL, epoch INTEGER NOT NULL, placed_ns INTEGER, ended_ns INTEGER, cluster TEXT, pool TEXT,
    cpu_millis INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
    prepare_seconds REAL, handover_seconds REAL, finish_seconds REAL,
    PRIMARY KEY (tenant, created_ns, job)
) WITHOUT ROWID;
CREATE INDEX measures_job ON measures (tenant, job);
CREATE TABLE progress (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    applied_seq INTEGER NOT NULL, done_seq INTEGER NOT NULL DEFAULT 0, alive_unix INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE anchors (seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, subject TEXT NOT NULL);
"""
ROWS = ("jobs", "labels", "events", "attempts", "steps", "summaries", "artifacts", "kept", "gone", "orphans")
CONTENT = (*ROWS, "measures", "progress", "anchors")


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The file with this version's tables, emptied when it had another's, made anew when it is no database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _prepare(path)
    except sqlite3.DatabaseError:
        for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            part.unlink(missing_ok=True)
        return _prepare(path)


def _prepare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A power loss may take the last transactions; the sequence goes with them and they are read again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-16384")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _recreate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _recreate(connection: sqlite3.Connection) -> None:
    found = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    connection.execute("BEGIN IMMEDIATE")
    for table in found:
        connection.execute(f'DROP TABLE "{table}"')
    for statement in TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def open_for_reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA query_only=1")
    connection.execute("PRAGMA cache_size=-4096")
    return connection
