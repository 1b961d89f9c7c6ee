"""Questions to the projection, each on a connection of a small pool, in a thread."""

import asyncio
import base64
import binascii
import queue
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.gateway.figures.model import Queue
from services.gateway.figures.tally import Windows
from services.gateway.log_reading.missing import AttemptLogs
from services.gateway.projection import measures
from services.gateway.projection.schema import open_for_reading
from services.gateway.refusals import BadRequest
from shared.facts import ArtifactsKept, ArtifactStored, AttemptEnded, JobRecord, StepEnded
from shared.ids import is_token
from shared.wire import decode

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs of a tenant, newest first."""

    states: tuple[str, ...] = ()
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    after: "Cursor | None" = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last job of a page; the next page begins behind it."""

    created_ns: int
    job: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"{self.created_ns}.{self.job}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Raises BadRequest."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise BadRequest(why="the cursor is none of ours: take `next_cursor` of the page before") from error
        created, _, job = raw.partition(".")
        if not (created.isdigit() and len(created) < 20 and int(created) < 2**63 and is_token(job)):  # noqa: PLR2004
            raise BadRequest(why="the cursor is none of ours: take `next_cursor` of the page before")
        return cls(int(created), job)


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    epoch: int
    type: str
    time_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AttemptRow:
    epoch: int
    cluster: str | None
    machine: str | None
    accepted_ns: int | None
    started_ns: int | None
    ended_ns: int | None
    ended: AttemptEnded | None


@dataclass(frozen=True, slots=True)
class StepRow:
    step: int
    name: str
    started_ns: int | None
    ready_ns: int | None
    ended: StepEnded | None


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job of a page, and how far its newest attempt is."""

    record: JobRecord
    accepted: bool = False
    started: bool = False
    stepping: bool = False


@dataclass(frozen=True, slots=True)
class JobPicture:
    """A job with what its newest attempt did."""

    record: JobRecord
    attempts: tuple[AttemptRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    artifacts: tuple[ArtifactStored, ...] = ()

    @property
    def attempt(self) -> AttemptRow | None:
        return next((attempt for attempt in self.attempts if attempt.epoch == self.record.epoch), None)


class Reading:
    """Made after the writer has made the file. Close it."""

    def __init__(self, path: Path, connections: int) -> None:
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="projection-reader")
        self._free: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._all = [open_for_reading(path) for _ in range(connections)]
        for connection in self._all:
            self._free.put(connection)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._all:
            connection.close()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def on_thread() -> T:
            connection = self._free.get()
            try:
                return work(connection)
            finally:
                self._free.put(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, on_thread)

    async def jobs(self, tenant: str, filters: Filters) -> list[ListedJob]:
        sql, values = list_query(tenant, filters)
        rows = await self._run(lambda db: db.execute(sql, values).fetchall())
        return [ListedJob(decode(JobRecord, row[0]), *map(bool, row[1:])) for row in rows]

    async def queued(self, tenant: str, at_most: int) -> int:
        """Jobs in state queued, counted no further than `at_most`."""
        sql = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant = ? AND state = 'queued' LIMIT ?)"
        row = await self._run(lambda db: db.execute(sql, (tenant, at_most)).fetchone())
        return int(row[0])

    async def placed(self, tenants: Sequence[str]) -> list[JobRecord]:
        """Of these tenants, those that are placed now."""
        sql = "SELECT record FROM jobs WHERE tenant = ? AND state = 'placed'"

        def work(db: sqlite3.Connection) -> list[JobRecord]:
            return [decode(JobRecord, row[0]) for tenant in tenants for row in db.execute(sql, (tenant,))]

        return await self._run(work)

    async def job(self, tenant: str, job: str) -> JobPicture | None:
        return await self._run(lambda db: _picture(db, tenant, job))

    async def record(self, tenant: str, job: str) -> JobRecord | None:
        sql = "SELECT record FROM jobs WHERE tenant = ? AND job = ?"
        row = await self._run(lambda db: db.execute(sql, (tenant, job)).fetchone())
        return decode(JobRecord, row[0]) if row else None

    async def events(self, tenant: str, job: str, after_seq: int, limit: int) -> list[Event]:
        sql = (
            "SELECT seq, epoch, type, time_ns, data FROM events WHERE tenant = ? AND job = ? AND seq > ? "
            "ORDER BY seq LIMIT ?"
        )
        rows = await self._run(lambda db: db.execute(sql, (tenant, job, after_seq, limit)).fetchall())
        return [Event(*row) for row in rows]

    async def attempt_logs(self, tenant: str, job: str, epoch: int) -> AttemptLogs:
        return await self._run(lambda db: _attempt_logs(db, (tenant, job, epoch)))

    async def measure(self, tenants: Sequence[str], windows: Windows) -> Queue:
        """Everything of these tenants is counted in the windows; what waits and runs now comes back."""

        def work(db: sqlite3.Connection) -> Queue:
            found = Queue()
            for tenant in tenants:
                for row in measures.jobs(db, tenant, windows.since_ns):
                    windows.job(row)
                for span in measures.attempts(db, tenant, windows.since_ns):
                    windows.attempt(span)
                found = found.plus(Queue(*measures.queue(db, tenant)))
            return found

        return await self._run(work)

    async def summaries(self, tenant: str, job: str, epoch: int) -> list[tuple[int, str]]:
        """(step, markdown) in step order."""
        sql = "SELECT step, markdown FROM summaries WHERE tenant = ? AND job = ? AND epoch = ? ORDER BY step"
        return await self._run(lambda db: db.execute(sql, (tenant, job, epoch)).fetchall())


_BEGUN = ", ".join(
    f"jobs.state = 'placed' AND EXISTS (SELECT 1 FROM {table} AS a WHERE a.tenant = jobs.tenant AND a.job = jobs.job "  # noqa: S608
    f"AND a.epoch = jobs.epoch AND {condition})"
    for table, condition in (("attempts", "a.accepted_ns"), ("attempts", "a.started_ns"), ("steps", "a.step > 0"))
)


def list_query(tenant: str, filters: Filters) -> tuple[str, tuple[Any, ...]]:
    """The page's SQL. One index serves it, whatever is filtered; only several labels are looked up beside it."""
    conditions, values = ["jobs.tenant = ?"], [tenant]
    source, order = "jobs", "jobs.created_ns DESC, jobs.job DESC"
    bound: list[Any] = []
    if filters.labels:
        (key, value), *others = filters.labels
        source = "labels JOIN jobs ON jobs.tenant = labels.tenant AND jobs.job = labels.job"
        order = "labels.created_ns DESC, labels.job DESC"
        conditions = ["labels.tenant = ?", "labels.key = ?", "labels.value = ?"]
        bound += [key, value]
        for other, wanted in others:
            conditions.append(
                "EXISTS (SELECT 1 FROM labels AS l WHERE l.tenant = jobs.tenant AND l.key = ? AND l.value = ? "
                "AND l.created_ns = jobs.created_ns AND l.job = jobs.job)"
            )
            bound += [other, wanted]
    table = "labels" if filters.labels else "jobs"
    if filters.states:
        conditions.append(f"jobs.state IN ({', '.join('?' * len(filters.states))})")
        bound += filters.states
    if filters.name is not None:
        conditions.append("jobs.name = ?")
        bound.append(filters.name)
    if filters.since_ns is not None:
        conditions.append(f"{table}.created_ns >= ?")
        bound.append(filters.since_ns)
    if filters.until_ns is not None:
        conditions.append(f"{table}.created_ns < ?")
        bound.append(filters.until_ns)
    if filters.after is not None:
        conditions.append(f"({table}.created_ns, {table}.job) < (?, ?)")
        bound += [filters.after.created_ns, filters.after.job]
    sql = f"SELECT jobs.record, {_BEGUN} FROM {source} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?"  # noqa: S608
    return sql, (*values, *bound, filters.limit)


def _picture(db: sqlite3.Connection, tenant: str, job: str) -> JobPicture | None:
    # One transaction: the parts are of one instant.
    db.execute("BEGIN")
    try:
        row = db.execute("SELECT record FROM jobs WHERE tenant = ? AND job = ?", (tenant, job)).fetchone()
        if row is None:
            return None
        record = decode(JobRecord, row[0])
        key = (tenant, job, record.epoch)
        attempts = db.execute(
            "SELECT epoch, cluster, machine, accepted_ns, started_ns, ended_ns, ended FROM attempts "
            "WHERE tenant = ? AND job = ? ORDER BY epoch",
            (tenant, job),
        ).fetchall()
        steps = db.execute(
            "SELECT step, name, started_ns, ready_ns, ended FROM steps "
            "WHERE tenant = ? AND job = ? AND epoch = ? ORDER BY step",
            key,
        ).fetchall()
        artifacts = db.execute(
            "SELECT fact FROM artifacts WHERE tenant = ? AND job = ? AND epoch = ? ORDER BY name", key
        ).fetchall()
        kept = db.execute("SELECT fact FROM kept WHERE tenant = ? AND job = ?", (tenant, job)).fetchone()
    finally:
        db.execute("COMMIT")
    return JobPicture(
        record,
        tuple(_attempt_row(row) for row in attempts),
        tuple(_step_row(row) for row in steps),
        tuple(decode(ArtifactStored, fact) for (fact,) in artifacts) or _kept(kept, record.epoch),
    )


def _attempt_logs(db: sqlite3.Connection, key: tuple[str, str, int]) -> AttemptLogs:
    which = "WHERE tenant = ? AND job = ? AND epoch = ?"
    started_ns, ended = db.execute(f"SELECT started_ns, ended FROM attempts {which}", key).fetchone() or (None, None)  # noqa: S608
    steps = db.execute(f"SELECT step, ended FROM steps {which}", key).fetchall()  # noqa: S608
    return AttemptLogs(
        started_ns is not None,
        ended is not None and decode(AttemptEnded, ended).spans is not None,
        {step: decode(StepEnded, fact).log_bytes if fact else None for step, fact in steps},
    )


def _kept(row: Sequence[bytes] | None, epoch: int) -> tuple[ArtifactStored, ...]:
    """What DONE has of the artifacts, once their facts are past their time."""
    artifacts = decode(ArtifactsKept, row[0]).artifacts if row else []
    return tuple(sorted((each for each in artifacts if each.epoch == epoch), key=lambda each: each.name))


def _attempt_row(row: Sequence[Any]) -> AttemptRow:
    *known, ended = row
    return AttemptRow(*known, decode(AttemptEnded, ended) if ended else None)  # type: ignore[call-arg] # one a column


def _step_row(row: Sequence[Any]) -> StepRow:
    *known, ended = row
    return StepRow(*known, decode(StepEnded, ended) if ended else None)  # type: ignore[call-arg] # one a column
