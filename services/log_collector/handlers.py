"""The bus edge: what a log says so far, what of it is durable, forget it.

Any collector is asked; who owns the log's partition answers, since it knows what is not stored yet. While nobody does
(the owner died a moment ago), the answer comes from parts and stream alone.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.log_collector import policy, reading
from services.log_collector.active import ActiveLogs
from services.log_collector.collector import Collector
from services.log_collector.model import LogId, Span
from services.log_collector.partition import chunk_of
from services.log_collector.policy import Limits, LogBuffer
from services.log_collector.reading import View
from services.log_collector.settings import Settings
from services.log_collector.store import PartStore, Stored
from shared.bus import Bus, Headers, Message
from shared.clock import Clock
from shared.errors import NotFound, Poison, Unavailable
from shared.flow import LOG, Ask, LogAt, Svc
from shared.requests import ANSWER, DurableAsked, DurableTold, ForgetAsked, ForgetTold, LogAsked
from shared.wire import decode, encode

log = structlog.get_logger()

Answer = tuple[bytes, Headers]
FLUSH_SECONDS = 3.0
OWNER_SECONDS = 4.0
STREAM_BYTES = 16 * 2**20
"""Read from the stream for one answer, when the owner is away."""
_SUBJECT = "Overspill-Subject"


class Desk:
    """Every method answers one kind of request."""

    def __init__(
        self, settings: Settings, bus: Bus, logs: ActiveLogs, store: PartStore, collector: Collector, clock: Clock
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._logs = logs
        self._store = store
        self._collector = collector
        self._clock = clock

    # ── read

    async def read(self, message: Message) -> Answer:
        """svc.log-collector.read"""
        asked = decode(LogAsked, message.data)
        which = LogId(asked.tenant, asked.job, asked.epoch, asked.step)
        return await self._by_owner(which, "read", message, self.read_here)

    async def read_here(self, message: Message) -> Answer:
        """svc.log-collector.read-<instance>"""
        asked = decode(LogAsked, message.data)
        which = LogId(asked.tenant, asked.job, asked.epoch, asked.step)
        if asked.over:
            await self._settle(which)
        for _ in range(3):
            view = await self._view(which, asked)
            try:
                data, told = await reading.read(view, asked, lambda name: self._store.read(which, name))
            except NotFound:
                # A part was replaced by a longer one since it was listed.
                await self._logs.reload(which)
            else:
                return data, {ANSWER: encode(told).decode()}
        raise Unavailable(what=f"the log of step {asked.step}", why="its parts changed while they were read")

    async def _settle(self, which: LogId) -> None:
        """Everything the stream has of the log is taken when this returns. Raises Unavailable."""
        reader = self._collector.reader(which)
        if reader is None or self._logs.is_whole(which) or (await self._store.glance(which)).complete:
            return
        newest = await self._bus.last(LOG, LogAt(reader.partition, *which))
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await reader.taken(newest.seq if newest is not None else 0)
        except TimeoutError as error:
            what = f"the end of the log of step {which.step}"
            raise Unavailable(what=what, why="its chunks wait to be read, try again") from error

    async def _view(self, which: LogId, asked: LogAsked) -> View:
        # Of an attempt that is over nothing more is awaited: what lacks is lost.
        patience = 0.0 if asked.over else self._settings.hole_seconds
        view = self._logs.view(which, patience)
        if view is not None:
            return view
        stored = await self._store.glance(which)
        if asked.over and not stored.complete:
            stored = await self._store.load(which)
        reader = self._collector.reader(which)
        if stored.complete or (reader is not None and reader.caught_up):
            # It may have come to memory while we looked.
            return self._logs.view(which, patience) or self._stored_view(stored, patience)
        return await self._view_with_stream(which, stored, asked.offset, patience)

    def _stored_view(self, stored: Stored, patience_seconds: float) -> View:
        spans, total = stored.spans(), stored.total
        silent = self._clock.now() - stored.newest_unix >= patience_seconds
        top = max(spans.end, total or 0)
        holes = list(spans.without(Span(0, top))) if silent or total is not None else []
        return View(stored.parts, (), holes, total)

    async def _view_with_stream(self, which: LogId, stored: Stored, offset: int, patience_seconds: float) -> View:
        """Keeps what follows `offset`, as much as fits an answer; of the rest only that it is there."""
        now = self._clock.monotonic()
        buffer = LogBuffer.stored(stored.spans(), stored.total, now - max(0.0, self._clock.now() - stored.newest_unix))
        subject = LogAt.filter(tenant=which.tenant, job=which.job, epoch=which.epoch, step=which.step)
        async for message in self._bus.read(LOG, subject, from_seq=await self._collector.checkpoint_of(which) + 1):
            try:
                chunk = chunk_of(message)
            except Poison:
                # Its owner buries it.
                continue
            if chunk.end <= offset or buffer.held_bytes > STREAM_BYTES:
                policy.pass_over(buffer, chunk, now)
            else:
                policy.append(buffer, chunk, message.seq, message.time_unix_ns // 1_000_000, now)
        holes = policy.holes(buffer, now, Limits(0, 0, patience_seconds))
        total = buffer.end.total if buffer.end else None
        return View(stored.parts, tuple(buffer.unwritten()), holes, total, buffer.written_bytes, buffer.durable.items)

    # ── durable

    async def durable(self, message: Message) -> Answer:
        """ask.<tenant>.<job>.<epoch>.durable"""
        who = Ask.parse(message.subject)
        return await self._by_owner(LogId(who.tenant, who.job, who.epoch, 0), "durable", message, self.durable_here)

    async def durable_here(self, message: Message) -> Answer:
        """svc.log-collector.durable-<instance>: the attempt's subject comes in a header."""
        who = Ask.parse(message.headers.get(_SUBJECT, message.subject))
        asked = decode(DurableAsked, message.data)
        logs = {step: LogId(who.tenant, who.job, who.epoch, step) for step in asked.steps}
        if asked.flush:
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await asyncio.gather(*(self._flush(which) for which in logs.values()))
            except TimeoutError:
                log.warning("flush_takes_long", tenant=who.tenant, job=who.job)
        known = {step: self._logs.durable(which) for step, which in logs.items()}
        rest = [step for step, told in known.items() if told is None]
        if rest:
            for step, stored in (await self._store.load_steps(logs[rest[0]], rest)).items():
                known[step] = (stored.spans().prefix_end, stored.complete)
        told = {step: durable for step, durable in known.items() if durable is not None}
        return encode(
            DurableTold(
                durable_bytes={step: size for step, (size, _) in told.items()},
                complete=[step for step, (_, complete) in told.items() if complete],
            )
        ), {}

    async def _flush(self, which: LogId) -> None:
        reader = self._collector.reader(which)
        if reader is None:
            return
        subject = LogAt(reader.partition, *which)
        newest = await self._bus.last(LOG, subject)
        if newest is not None:
            await reader.taken(newest.seq)
            await self._logs.flushed(which)

    # ── forget

    async def forget(self, message: Message) -> Answer:
        """svc.log-collector.forget"""
        asked = decode(ForgetAsked, message.data)
        if asked.job is None:
            # Its logs are in many partitions; each job was forgotten by its own owner before.
            return await self.forget_here(message)
        return await self._by_owner(LogId(asked.tenant, asked.job, 0, 0), "forget", message, self.forget_here)

    async def forget_here(self, message: Message) -> Answer:
        """svc.log-collector.forget-<instance>"""
        asked = decode(ForgetAsked, message.data)

        def meant(which: LogId) -> bool:
            return which.tenant == asked.tenant and asked.job in (None, which.job)

        # Taken and stored first: what is on its way would come after the deletion.
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                if asked.job is not None:
                    await self._all_taken(LogId(asked.tenant, asked.job, 0, 0))
                await self._logs.flush_all(meant)
        except TimeoutError as error:
            raise Unavailable(what=f"logs of {asked.tenant}", why="they are still being stored") from error
        self._logs.drop(meant)
        await self._bus.purge(LOG, LogAt.filter(tenant=asked.tenant, job=asked.job or "*"))
        return encode(ForgetTold(objects=await self._store.forget(asked.tenant, asked.job))), {}

    async def _all_taken(self, which: LogId) -> None:
        reader = self._collector.reader(which)
        if reader is None:
            return
        subjects = LogAt.filter(partition=reader.partition, tenant=which.tenant, job=which.job)
        newest = await self._bus.last(LOG, subjects)
        if newest is not None:
            await reader.taken(newest.seq)

    # ── who answers

    async def _by_owner(
        self, which: LogId, op: str, message: Message, here: Callable[[Message], Awaitable[Answer]]
    ) -> Answer:
        owner = self._collector.owner(which)
        if owner is None or owner == self._settings.instance:
            return await here(message)
        try:
            subject, headers = Svc("log-collector", _own(op, owner)), {_SUBJECT: message.subject}
            answer = await self._bus.request(subject, message.data, headers=headers, timeout_seconds=OWNER_SECONDS)
        except Unavailable as error:
            log.info("owner_silent", owner=owner, op=op, error=str(error))
            return await here(message)
        return answer.data, {ANSWER: answer.headers[ANSWER]} if ANSWER in answer.headers else {}

    def own_subjects(self) -> list[tuple[str, Callable[[Message], Awaitable[Answer]]]]:
        """What only this instance answers."""
        served = (("read", self.read_here), ("durable", self.durable_here), ("forget", self.forget_here))
        return [(str(Svc("log-collector", _own(op, self._settings.instance))), here) for op, here in served]

    def shared_subjects(self) -> list[tuple[str, Callable[[Message], Awaitable[Answer]]]]:
        """What any collector may be asked."""
        return [
            (str(Svc("log-collector", "read")), self.read),
            (str(Svc("log-collector", "forget")), self.forget),
            (Ask.filter(op="durable"), self.durable),
        ]


def _own(op: str, instance: str) -> str:
    """A token holds 40 characters: the op with as much of the instance's name as always fits."""
    return f"{op}-{instance[:32]}"
