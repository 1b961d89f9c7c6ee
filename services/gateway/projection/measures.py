"""What figures need of every job, narrow enough to be read for a week at once: the table `measures`."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from services.gateway.figures.model import AttemptSpan, JobRow
from shared.facts import JobRecord

LARGEST = 2**63 - 1
LOOKBACK_NS = 86_400 * 1_000_000_000
"""A job that was accepted so long before a window may still have run in it."""

UPSERT = """
INSERT INTO measures (tenant, created_ns, job, seq, state, epoch, placed_ns, ended_ns, cluster, pool, cpu_millis,
    memory_bytes, prepare_seconds, handover_seconds, finish_seconds)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq, state = excluded.state, epoch = excluded.epoch,
    placed_ns = excluded.placed_ns, ended_ns = excluded.ended_ns, cluster = coalesce(excluded.cluster, cluster),
    pool = coalesce(excluded.pool, pool), prepare_seconds = excluded.prepare_seconds,
    handover_seconds = excluded.handover_seconds, finish_seconds = excluded.finish_seconds
WHERE excluded.seq > measures.seq AND measures.ended_ns IS NULL
"""
_JOBS = """
SELECT m.state, m.epoch, m.created_ns, m.placed_ns, m.ended_ns,
    CASE WHEN m.epoch > 1
        THEN (SELECT min(f.accepted_ns) FROM attempts AS f WHERE f.tenant = m.tenant AND f.job = m.job)
        ELSE a.accepted_ns END,
    a.accepted_ns, a.ended_ns, m.prepare_seconds, m.handover_seconds, m.finish_seconds
FROM measures AS m LEFT JOIN attempts AS a ON a.tenant = m.tenant AND a.job = m.job AND a.epoch = m.epoch
WHERE m.tenant = ? AND m.created_ns >= ?
"""
_ATTEMPTS = """
SELECT coalesce(m.cluster, a.cluster, ''), coalesce(m.pool, ''), a.accepted_ns, coalesce(a.ended_ns, m.ended_ns),
    m.cpu_millis / 1000.0, m.memory_bytes
FROM measures AS m JOIN attempts AS a ON a.tenant = m.tenant AND a.job = m.job
WHERE m.tenant = ? AND m.created_ns >= ? AND a.accepted_ns IS NOT NULL
"""
_QUEUE = "SELECT count(*), min(created_ns) FROM jobs WHERE tenant = ? AND state = 'queued'"
_RUNNING = "SELECT count(*) FROM jobs WHERE tenant = ? AND state = 'placed'"


def values(record: JobRecord, seq: int) -> tuple[Any, ...]:
    place, spans = record.placement, record.spans
    return (
        record.tenant,
        _stored(record.created_unix_ns),
        record.job,
        seq,
        record.state.value,
        record.epoch,
        _stored(record.placed_unix_ns),
        _stored(record.ended_unix_ns),
        place.cluster if place else None,
        place.pool if place else None,
        record.needs.cpu_millis,
        record.needs.memory_bytes,
        spans.prepare_seconds if spans else None,
        spans.handover_seconds if spans else None,
        spans.finish_seconds if spans else None,
    )


def _stored(unix_ns: int | None) -> int | None:
    """Whoever wrote a record may say anything."""
    return None if unix_ns is None else max(0, min(unix_ns, LARGEST))


def jobs(db: sqlite3.Connection, tenant: str, since_ns: int) -> Iterator[JobRow]:
    for row in db.execute(_JOBS, (tenant, since_ns)):
        yield JobRow._make(row)


def attempts(db: sqlite3.Connection, tenant: str, since_ns: int) -> Iterator[AttemptSpan]:
    for row in db.execute(_ATTEMPTS, (tenant, max(0, since_ns - LOOKBACK_NS))):
        yield AttemptSpan._make(row)


def queue(db: sqlite3.Connection, tenant: str) -> tuple[int, int | None, int]:
    """(waiting, when the oldest of them was accepted, running)"""
    waiting, oldest = db.execute(_QUEUE, (tenant,)).fetchone()
    (running,) = db.execute(_RUNNING, (tenant,)).fetchone()
    return waiting, oldest, running
