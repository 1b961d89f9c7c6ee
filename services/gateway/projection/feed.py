"""From the bus into the projection: resume where it stopped, or rebuild; then follow EVT for ever."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from services.gateway.projection.fold import FINAL_SEQ, Statement, fold, record_statements
from services.gateway.projection.followers import Followers, JobKey
from services.gateway.projection.writing import Anchor, Writer
from shared.bus import Bus, Message
from shared.crash_points import crash_point
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts import JobRecord
from shared.flow import DONE, EVT, JOBS, Done, Evt, Job, RecordCopy
from shared.stream import Stream
from shared.wire import decode

log = structlog.get_logger()

BATCH = 512
WAITING_LIMIT = 4 * BATCH
RETRY_SECONDS = 1.0
FORGET_SECONDS = 600.0
FILTERS = (Evt.filter(), RecordCopy.filter())


class StreamReplaced(OverspillError):
    """EVT is not the stream the projection was made from; it is rebuilt."""

    code = "stream_replaced"


class Feed:
    """Keeps the projection up to date. `caught_up` is set once everything stored at the start is in it."""

    def __init__(self, bus: Bus, writer: Writer, followers: Followers) -> None:
        self._bus, self._writer, self._followers = bus, writer, followers
        self.caught_up = asyncio.Event()
        self.applied_seq = 0
        self._reconnected = asyncio.Event()
        bus.on_reconnect(self._reconnected.set)

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                position = await self._resume()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow(position))
                    tasks.create_task(self._verify_on_reconnect())
                    tasks.create_task(self._forget())
            except* (Unavailable, StreamReplaced) as group:
                log.warning("projection_interrupted", error=str(group.exceptions[0]))
            await asyncio.sleep(RETRY_SECONDS)

    async def _resume(self) -> int:
        """The sequence to follow EVT from."""
        applied = await self._writer.applied_seq()
        if applied is None or not await self._is_same_stream(applied):
            self.caught_up.clear()
            applied = await self._rebuild()
        self.applied_seq = applied
        return applied + 1

    async def _is_same_stream(self, applied: int) -> bool:
        """Nothing between was lost and an applied message is still there as it was."""
        if applied == 0:
            return True
        first, end = await self._bus.first_seq(EVT), await self._bus.end_seq(EVT)
        if end < applied or first > applied + 1:
            return False
        for anchor in await self._writer.anchors():
            found = await self._message_at(anchor.seq)
            if found is not None:
                return (found.time_unix_ns, found.subject) == (anchor.time_unix_ns, anchor.subject)
        # Every anchor has left the stream by age, which is only believable when nothing at all is left before us.
        return first == applied + 1

    async def _message_at(self, seq: int) -> Message | None:
        async with contextlib.aclosing(_generator(self._bus.read(EVT, *FILTERS, from_seq=seq))) as messages:
            async for message in messages:
                return message if message.seq == seq else None
        return None

    async def _rebuild(self) -> int:
        """Records first: what EVT no longer holds. Then EVT from its beginning, by following it."""
        log.info("projection_rebuild_began")
        await self._writer.clear()
        count = await self._load(JOBS, Job.filter(), final=False)
        count += await self._load(DONE, Done.filter(), final=True)
        log.info("projection_records_loaded", records=count)
        first = await self._bus.first_seq(EVT)
        applied = max(first - 1, 0)
        await self._writer.apply((), applied, None)
        return applied

    async def _load(self, stream: Stream, subjects: str, *, final: bool) -> int:
        statements: list[Statement] = []
        count = 0
        async for message in self._bus.read(stream, subjects, from_seq=1):
            try:
                record = decode(JobRecord, message.data)
            except Poison as error:
                log.error("record_unreadable", subject=message.subject, error=str(error))  # noqa: TRY400
                continue
            seq = FINAL_SEQ if final else message.seq
            statements.extend(record_statements(record, message.data, seq))
            count += 1
            if len(statements) >= BATCH:
                await self._writer.apply(statements, None, None)
                statements = []
        await self._writer.apply(statements, None, None)
        return count

    async def _follow(self, position: int) -> None:
        target = await self._bus.end_seq(EVT)
        if position > target:
            self.caught_up.set()
        waiting: asyncio.Queue[Message] = asyncio.Queue(WAITING_LIMIT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(position, waiting))
            while True:
                batch = [await waiting.get()]
                while len(batch) < BATCH and not waiting.empty():
                    batch.append(waiting.get_nowait())
                await self._apply(batch)
                if self.applied_seq >= target:
                    self.caught_up.set()

    async def _read(self, position: int, waiting: "asyncio.Queue[Message]") -> None:
        async for message in self._bus.tail(EVT, *FILTERS, from_seq=position):
            await waiting.put(message)

    async def _apply(self, batch: list[Message]) -> None:
        statements: list[Statement] = []
        touched: set[JobKey] = set()
        for message in batch:
            try:
                folded = fold(message)
            except Poison as error:
                # It can't be told from EVT to whoever wrote it; the record and the rest stay true without it.
                log.warning("event_unreadable", subject=message.subject, seq=message.seq, error=str(error))
                continue
            statements.extend(folded.statements)
            touched.add((folded.tenant, folded.job))
        newest = batch[-1]
        await self._writer.apply(statements, newest.seq, Anchor(newest.seq, newest.time_unix_ns, newest.subject))
        crash_point("gateway.after-projection-before-followers")
        self.applied_seq = newest.seq
        self._followers.tell(touched)

    async def _verify_on_reconnect(self) -> None:
        while True:
            await self._reconnected.wait()
            self._reconnected.clear()
            if not await self._is_same_stream(self.applied_seq):
                raise StreamReplaced

    async def _forget(self) -> None:
        while True:
            first = await self._bus.first_seq(EVT)
            gone = BATCH
            while gone == BATCH:
                gone = await self._writer.forget_events_before(first, BATCH)
            await asyncio.sleep(FORGET_SECONDS)


async def _generator(messages: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
    async for message in messages:
        yield message
