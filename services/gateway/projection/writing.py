"""The one writer: a thread that owns the connection. Batches go in whole, with the sequence they reach."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from services.gateway.projection import forgetting
from services.gateway.projection.fold import Statement
from services.gateway.projection.followers import JobKey
from services.gateway.projection.schema import CONTENT, open_for_writing
from shared.errors import Unavailable

T = TypeVar("T")

KEPT_ANCHORS = 64
NOTHING: Mapping[JobKey, int] = {}


@dataclass(frozen=True, slots=True)
class Anchor:
    """A message that was applied: proof that a stream is the one we read."""

    seq: int
    time_unix_ns: int
    subject: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far EVT and DONE are in, and when this was last said to be alive."""

    applied_seq: int
    done_seq: int
    alive_unix: int


class Writer:
    """Use as a context manager; it makes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projection-writer")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await self._run(lambda: open_for_writing(self._path))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        connection = self._opened
        await asyncio.shield(self._run(connection.close))
        self._thread.shutdown()

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the projection's writer is used outside of its context")
        return self._connection

    async def _run(self, work: Callable[[], T]) -> T:
        """Raises Unavailable when the disk is full or fails: nothing was applied."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.OperationalError as error:
            raise Unavailable(what=f"the projection {self._path}", why=str(error)) from error

    async def anchors(self) -> list[Anchor]:
        """Newest first."""
        sql = "SELECT seq, time_ns, subject FROM anchors ORDER BY seq DESC"
        return [Anchor(*row) for row in await self._run(lambda: self._opened.execute(sql).fetchall())]

    async def clear(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for table in CONTENT:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own table names

        await self._run(lambda: self._transaction(work))

    async def apply(
        self,
        statements: Sequence[Statement],
        applied_seq: int | None,
        anchor: Anchor | None,
        touched: Mapping[JobKey, int] = NOTHING,
    ) -> None:
        """All or nothing. `applied_seq` None leaves it as it is; `touched`: jobs and when, for `forgetting.settle`."""

        def work(connection: sqlite3.Connection) -> None:
            for sql, values in statements:
                connection.execute(sql, values)
            forgetting.settle(connection, touched)
            if applied_seq is not None:
                connection.execute(
                    "INSERT INTO progress (only, applied_seq) VALUES (1, ?) "
                    "ON CONFLICT DO UPDATE SET applied_seq = excluded.applied_seq",
                    (applied_seq,),
                )
            if anchor is not None:
                row = (anchor.seq, anchor.time_unix_ns, anchor.subject)
                connection.execute("INSERT OR REPLACE INTO anchors (seq, time_ns, subject) VALUES (?, ?, ?)", row)
                connection.execute(
                    "DELETE FROM anchors WHERE seq NOT IN (SELECT seq FROM anchors ORDER BY seq DESC LIMIT ?)",
                    (KEPT_ANCHORS,),
                )

        await self._run(lambda: self._transaction(work))

    async def note_gone(self, keys: Iterable[JobKey]) -> None:
        await self._run(lambda: self._transaction(lambda db: forgetting.note_gone(db, keys)))

    async def let_go(self, keys: Iterable[JobKey]) -> None:
        await self._run(lambda: self._transaction(lambda db: forgetting.let_go(db, keys)))

    async def all_gone(self) -> set[JobKey]:
        return await self._run(lambda: forgetting.all_gone(self._opened))

    async def drop_old(self, horizon_ns: int, orphans_ns: int, limit: int) -> int:
        """See `forgetting.drop_old`."""
        return await self._run(
            lambda: self._transaction(lambda db: forgetting.drop_old(db, horizon_ns, orphans_ns, limit))
        )

    async def progress(self) -> Progress | None:
        """None: the file is empty and was never filled."""
        sql = "SELECT applied_seq, done_seq, alive_unix FROM progress"
        row = await self._run(lambda: self._opened.execute(sql).fetchone())
        return None if row is None else Progress(*row)

    async def tell_progress(self, *, done_seq: int | None = None, alive_unix: int | None = None) -> None:
        sql = "UPDATE progress SET done_seq = coalesce(?, done_seq), alive_unix = coalesce(?, alive_unix)"
        await self._run(lambda: self._opened.execute(sql, (done_seq, alive_unix)).rowcount)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._opened
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = work(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return done
