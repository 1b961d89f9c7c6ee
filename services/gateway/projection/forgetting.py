"""What leaves the projection, and when. Statements over an open transaction.

The room's law holds here too: what is left depends only on what the bus holds and on the horizons, never on when or
how often this ran. So a projection that lived through everything and one made from nothing have the same rows.

- A job with a tombstone (or of a tenant that is being deleted) has no row at all, whatever still arrives about it.
- A job's details (events, attempts, steps, summaries, artifacts) go as a whole once it was created before the horizon,
  which lies well inside of what EVT still holds: half a picture is never shown. What DONE keeps of it stays.
- Details of a job nobody ever heard of go after a while, its events at the horizon.
"""

import sqlite3
from collections.abc import Iterable, Mapping

from services.gateway.projection.followers import JobKey

WHOLE_TENANT = ""
"""In place of a job."""
DETAILS = ("events", "attempts", "steps", "summaries", "artifacts")
ROWS_OF_A_JOB = ("jobs", "labels", "measures", "kept", "orphans", *DETAILS)


def settle(db: sqlite3.Connection, touched: Mapping[JobKey, int]) -> None:
    """Bring jobs that were just written to (and the stream time of that, ns) back to what may be there of them."""
    for (tenant, job), time_ns in touched.items():
        if db.execute("SELECT 1 FROM gone WHERE tenant = ? AND job IN (?, '')", (tenant, job)).fetchone():
            _erase(db, (tenant, job))
            continue
        row = db.execute("SELECT detailed FROM jobs WHERE tenant = ? AND job = ?", (tenant, job)).fetchone()
        if row is None:
            db.execute("INSERT OR REPLACE INTO orphans (tenant, job, time_ns) VALUES (?, ?, ?)", (tenant, job, time_ns))
        else:
            db.execute("DELETE FROM orphans WHERE tenant = ? AND job = ?", (tenant, job))
            if not row[0]:
                _drop_details(db, (tenant, job), DETAILS)


def note_gone(db: sqlite3.Connection, keys: Iterable[JobKey]) -> None:
    """They are to be forgotten, and stay so until `let_go`."""
    for key in keys:
        db.execute("INSERT OR IGNORE INTO gone (tenant, job) VALUES (?, ?)", key)
        _erase(db, key)


def let_go(db: sqlite3.Connection, keys: Iterable[JobKey]) -> None:
    """Nothing can arrive about them any more."""
    for key in keys:
        _erase(db, key)
        db.execute("DELETE FROM gone WHERE tenant = ? AND job = ?", key)


def all_gone(db: sqlite3.Connection) -> set[JobKey]:
    return set(db.execute("SELECT tenant, job FROM gone").fetchall())


def drop_old(db: sqlite3.Connection, horizon_ns: int, orphans_ns: int, limit: int) -> int:
    """At most about `limit` jobs and events; how many went."""
    old = db.execute(
        "SELECT tenant, job FROM jobs WHERE detailed = 1 AND created_ns < ? LIMIT ?", (horizon_ns, limit)
    ).fetchall()
    for key in old:
        _drop_details(db, key, DETAILS)
        db.execute("UPDATE jobs SET detailed = 0 WHERE tenant = ? AND job = ?", key)
    orphans = db.execute("SELECT tenant, job FROM orphans WHERE time_ns < ? LIMIT ?", (orphans_ns, limit)).fetchall()
    for key in orphans:
        _drop_details(db, key, [table for table in DETAILS if table != "events"])
        db.execute("DELETE FROM orphans WHERE tenant = ? AND job = ?", key)
    events = db.execute(
        "DELETE FROM events WHERE (tenant, job, seq) IN "
        "(SELECT tenant, job, seq FROM events WHERE time_ns < ? LIMIT ?)",
        (horizon_ns, limit),
    )
    return len(old) + len(orphans) + events.rowcount


def _erase(db: sqlite3.Connection, key: JobKey) -> None:
    tenant, job = key
    for table in ROWS_OF_A_JOB:
        if job == WHOLE_TENANT:
            db.execute(f"DELETE FROM {table} WHERE tenant = ?", (tenant,))  # noqa: S608 - our own table names
        else:
            db.execute(f"DELETE FROM {table} WHERE tenant = ? AND job = ?", key)  # noqa: S608 - as above


def _drop_details(db: sqlite3.Connection, key: JobKey, tables: Iterable[str]) -> None:
    for table in tables:
        db.execute(f"DELETE FROM {table} WHERE tenant = ? AND job = ?", key)  # noqa: S608 - our own table names
