"""The one writer: a thread that owns the connection. Batches go in whole, with the sequence they reach."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from services.gateway.projection.fold import Statement
from services.gateway.projection.schema import CONTENT, open_for_writing
from shared.errors import Unavailable

T = TypeVar("T")

KEPT_ANCHORS = 64


@dataclass(frozen=True, slots=True)
class Anchor:
    """A message that was applied: proof that a stream is the one we read."""

    seq: int
    time_unix_ns: int
    subject: str


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

    async def applied_seq(self) -> int | None:
        """None: the file is empty and was never filled."""
        row = await self._run(lambda: self._opened.execute("SELECT applied_seq FROM progress").fetchone())
        return None if row is None else int(row[0])

    async def anchors(self) -> list[Anchor]:
        """Newest first."""
        sql = "SELECT seq, time_ns, subject FROM anchors ORDER BY seq DESC"
        return [Anchor(*row) for row in await self._run(lambda: self._opened.execute(sql).fetchall())]

    async def clear(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for table in CONTENT:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own table names

        await self._run(lambda: self._transaction(work))

    async def apply(self, statements: Sequence[Statement], applied_seq: int | None, anchor: Anchor | None) -> None:
        """All or nothing. `applied_seq` None leaves it as it is."""

        def work(connection: sqlite3.Connection) -> None:
            for sql, values in statements:
                connection.execute(sql, values)
            if applied_seq is not None:
                connection.execute("INSERT OR REPLACE INTO progress (only, applied_seq) VALUES (1, ?)", (applied_seq,))
            if anchor is not None:
                row = (anchor.seq, anchor.time_unix_ns, anchor.subject)
                connection.execute("INSERT OR REPLACE INTO anchors (seq, time_ns, subject) VALUES (?, ?, ?)", row)
                connection.execute(
                    "DELETE FROM anchors WHERE seq NOT IN (SELECT seq FROM anchors ORDER BY seq DESC LIMIT ?)",
                    (KEPT_ANCHORS,),
                )

        await self._run(lambda: self._transaction(work))

    async def forget_events_before(self, seq: int, limit: int) -> int:
        """Events that left the stream leave the history too; at most `limit` at once. How many went."""
        sql = (
            "DELETE FROM events WHERE (tenant, job, seq) IN (SELECT tenant, job, seq FROM events WHERE seq < ? LIMIT ?)"
        )
        return await self._run(lambda: self._opened.execute(sql, (seq, limit)).rowcount)

    def _transaction(self, work: Callable[[sqlite3.Connection], None]) -> None:
        connection = self._opened
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
