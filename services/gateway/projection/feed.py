"""From the bus into the projection: resume where it stopped, or rebuild; then follow EVT for ever."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import structlog

from services.gateway.projection.fold import FINAL_SEQ, Statement, fold, kept_statements, record_statements
from services.gateway.projection.followers import Followers, JobKey
from services.gateway.projection.forgetting import WHOLE_TENANT
from services.gateway.projection.writing import Anchor, Progress, Writer
from services.gateway.tenants import Directory
from shared.burying import bury
from shared.bus import Bus, Message
from shared.cancelling import apart, heed_cancel
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts import JobRecord
from shared.facts.forgetting import STANDS_SECONDS
from shared.flow import DONE, EVT, HOUR, JOBS, Done, Evt, Gone, Job, Kept, RecordCopy
from shared.stream import Stream
from shared.wire import decode

log = structlog.get_logger()

BATCH = 512
WAITING_LIMIT = 4 * BATCH
RETRY_SECONDS = 1.0
FORGET_SECONDS = 600.0
DETAILS_SECONDS = EVT.keeps_seconds - 12 * HOUR
"""Details of a job created longer ago are not shown. Of every younger one EVT has all, however clocks differ."""
ORPHANS_SECONDS = HOUR
"""A record is in EVT long before this; what has none by then is of no job."""
AWAY_SECONDS = STANDS_SECONDS - 12 * HOUR
"""A projection that was away for longer may have missed tombstones: it is made anew."""
FILTERS = (Evt.filter(), RecordCopy.filter())


class StreamReplaced(OverspillError):
    """EVT is not the stream the projection was made from; it is rebuilt."""

    code = "stream_replaced"


class Feed:
    """Keeps the projection up to date. `caught_up` is set once everything stored at the start is in it."""

    def __init__(self, bus: Bus, writer: Writer, followers: Followers, directory: Directory, clock: Clock) -> None:
        self._bus, self._writer, self._followers = bus, writer, followers
        self._directory, self._clock = directory, clock
        self._tenants_changed = asyncio.Event()
        directory.on_change(self._tenants_changed.set)
        self._rebuilt_to = self._target = 0
        self.caught_up = asyncio.Event()
        self.applied_seq = 0
        self._reconnected = asyncio.Event()
        bus.on_reconnect(self._reconnected.set)

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                await apart(self._keep_up(await self._resume()))
            except* (Unavailable, StreamReplaced) as group:
                log.warning("projection_interrupted", error=str(group.exceptions[0]))
            heed_cancel()
            await asyncio.sleep(RETRY_SECONDS)

    async def _keep_up(self, position: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(position))
            tasks.create_task(self._follow_done())
            tasks.create_task(self._follow_tenants())
            tasks.create_task(self._verify_on_reconnect())
            tasks.create_task(self._forget())

    async def _resume(self) -> int:
        """The sequence to follow EVT from."""
        known = await self._writer.progress()
        if known is None or not await self._is_current(known):
            self.caught_up.clear()
            self.applied_seq = await self._rebuild()
        else:
            self.applied_seq = known.applied_seq
        return self.applied_seq + 1

    async def _is_current(self, known: Progress) -> bool:
        if self._clock.now() - known.alive_unix > AWAY_SECONDS or await self._bus.end_seq(DONE) < known.done_seq:
            return False
        return await self._is_same_stream(known.applied_seq)

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
        self._rebuilt_to = await self._newest_seq()
        done_seq = await self._bus.end_seq(DONE)
        stones = await self._bus.last_each(DONE, Gone.filter())
        await self._writer.note_gone([key_of(stone) for stone in stones])
        count = await self._load(JOBS, Job.filter(), final=False)
        count += await self._load(DONE, Done.filter(), final=True)
        async for message in self._bus.read(DONE, Kept.filter(), from_seq=1):
            await self._take_kept(message)
        log.info("projection_records_loaded", records=count)
        first = await self._bus.first_seq(EVT)
        applied = max(first - 1, 0)
        await self._writer.apply((), applied, None)
        await self._writer.tell_progress(done_seq=done_seq, alive_unix=int(self._clock.now()))
        return applied

    async def _newest_seq(self) -> int:
        """Of what is still there: the stream's own last sequence may be of a message that was purged."""
        newest = await self._bus.last(EVT, "evt.>")
        return newest.seq if newest is not None else 0

    async def _load(self, stream: Stream, subjects: str, *, final: bool) -> int:
        statements: list[Statement] = []
        touched: dict[JobKey, int] = {}
        count = 0
        async for message in self._bus.read(stream, subjects, from_seq=1):
            try:
                record = decode(JobRecord, message.data)
            except Poison as error:
                log.error("record_unreadable", subject=message.subject, error=str(error))  # noqa: TRY400
                continue
            seq = FINAL_SEQ if final else message.seq
            statements.extend(record_statements(record, message.data, seq))
            touched[record.tenant, record.job] = message.time_unix_ns
            count += 1
            if len(statements) >= BATCH:
                await self._writer.apply(statements, None, None, touched)
                statements, touched = [], {}
        await self._writer.apply(statements, None, None, touched)
        return count

    async def _follow(self, position: int) -> None:
        self._target = await self._newest_seq()
        if position > self._target:
            self.caught_up.set()
        waiting: asyncio.Queue[Message] = asyncio.Queue(WAITING_LIMIT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(position, waiting))
            tasks.create_task(self._look_whether_caught_up())
            while True:
                batch = [await waiting.get()]
                while len(batch) < BATCH and not waiting.empty():
                    batch.append(waiting.get_nowait())
                await self._apply(batch)
                if self.applied_seq >= self._target:
                    self.caught_up.set()

    async def _look_whether_caught_up(self) -> None:
        """The message that is waited for may be purged meanwhile."""
        while not self.caught_up.is_set():
            await asyncio.sleep(RETRY_SECONDS)
            self._target = min(self._target, await self._newest_seq())
            if self.applied_seq >= self._target:
                self.caught_up.set()

    async def _read(self, position: int, waiting: "asyncio.Queue[Message]") -> None:
        async for message in self._bus.tail(EVT, *FILTERS, from_seq=position):
            await waiting.put(message)

    async def _apply(self, batch: list[Message]) -> None:
        statements: list[Statement] = []
        touched: dict[JobKey, int] = {}
        for message in batch:
            try:
                folded = fold(message)
            except Poison as error:
                await self._bury(message, str(error))
                continue
            statements.extend(folded.statements)
            touched[folded.tenant, folded.job] = message.time_unix_ns
        newest = batch[-1]
        anchor = Anchor(newest.seq, newest.time_unix_ns, newest.subject)
        await self._writer.apply(statements, newest.seq, anchor, touched)
        crash_point("gateway.after-projection-before-followers")
        self.applied_seq = newest.seq
        self._followers.tell(touched)

    async def _bury(self, message: Message, why: str) -> None:
        """The record and the rest stay true without it. What a rebuild meets again was buried the first time."""
        log.warning("event_unreadable", subject=message.subject, seq=message.seq, error=why)
        if message.seq > self._rebuilt_to:
            await bury(self._bus, "gateway", message, why)

    async def forget(self, *keys: JobKey) -> None:
        """Their tombstones stand: nobody here sees them any more when this returns."""
        await self._writer.note_gone(keys)
        self._followers.tell(keys)

    async def _follow_done(self) -> None:
        known = await self._writer.progress()
        position = known.done_seq + 1 if known else 1
        async for message in self._bus.tail(DONE, Gone.filter(), Kept.filter(), from_seq=position):
            if message.subject.startswith("gone."):
                await self.forget(key_of(message))
            else:
                await self._take_kept(message)
            await self._writer.tell_progress(done_seq=message.seq)

    async def _take_kept(self, message: Message) -> None:
        try:
            about = Kept.parse(message.subject)
            touched = {(about.tenant, about.job): message.time_unix_ns}
            await self._writer.apply(tuple(kept_statements(message)), None, None, touched)
        except Poison as error:
            await self._bury(message, str(error))

    async def _follow_tenants(self) -> None:
        while True:
            self._tenants_changed.clear()
            closing = {(tenant, WHOLE_TENANT) for tenant in self._directory.closing()}
            noted = {key for key in await self._writer.all_gone() if key[1] == WHOLE_TENANT}
            await self._writer.note_gone(closing - noted)
            # A new tenant of an old name.
            await self._writer.let_go(key for key in noted - closing if self._directory.tenants.get(key[0]))
            await self._tenants_changed.wait()

    async def _verify_on_reconnect(self) -> None:
        while True:
            await self._reconnected.wait()
            self._reconnected.clear()
            if not await self._is_same_stream(self.applied_seq):
                raise StreamReplaced

    async def _forget(self) -> None:
        while True:
            await self.drop_old()
            await asyncio.sleep(FORGET_SECONDS)

    async def drop_old(self) -> None:
        """What is past its time, and tombstones that nothing can come back from. Raises Unavailable."""
        now = self._clock.now()
        await self._writer.tell_progress(alive_unix=int(now))
        horizon_ns, orphans_ns = int((now - DETAILS_SECONDS) * 1e9), int((now - ORPHANS_SECONDS) * 1e9)
        while await self._writer.drop_old(horizon_ns, orphans_ns, BATCH):
            pass
        noted = await self._writer.all_gone()
        if noted and self._directory.loaded:
            standing = {key_of(stone) for stone in await self._bus.last_each(DONE, Gone.filter())}
            standing |= {(tenant, WHOLE_TENANT) for tenant in self._directory.closing()}
            if await self._newest_seq() <= self.applied_seq:
                await self._writer.let_go(noted - standing)


def key_of(stone: Message) -> JobKey:
    about = Gone.parse(stone.subject)
    return about.tenant, about.job


async def _generator(messages: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
    async for message in messages:
        yield message
