"""The logs this collector has in memory: chunks in, parts out."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

import structlog

from services.log_collector import parts, policy
from services.log_collector.model import End, LogId, PartName, Span
from services.log_collector.parts import DamagedPart, Verdict
from services.log_collector.policy import Limits, LogBuffer, WaitUntil, Write
from services.log_collector.reading import View
from services.log_collector.settings import Settings
from services.log_collector.store import PartStore, Stored, without_superseded
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import NotFound, OverspillError
from shared.facts.log import LogChunk
from shared.ids import random_id
from shared.metrics import LOG_STORED
from shared.telemetry import count

log = structlog.get_logger()

RETRY_SECONDS = (0.2, 5.0)
MAX_LOGS = 20_000
OPEN_BYTES = 32 * 2**20
THREAD_BYTES = 32 * 1024

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class OpenPart:
    """The newest stored part while it is small: the next write replaces it by a longer one."""

    name: PartName
    blob: bytes


@dataclass(slots=True)
class ActiveLog:
    id: LogId
    buffer: LogBuffer
    parts: list[PartName]
    open: OpenPart | None = None
    hasher: Any = field(default_factory=hashlib.sha256)
    hashed: int = 0
    timer: asyncio.TimerHandle | None = None
    touched: float = 0.0
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Tell who waits until nothing waits to be written."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


def _hash(active: ActiveLog, write: Write) -> None:
    for piece in write.pieces:
        active.hasher.update(piece.data)
    active.hashed = write.stop


async def _aside(write: Write, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Large work in a thread, small work at once: a thread costs more."""
    if write.stop - write.start < THREAD_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


class ActiveLogs:
    """Memory is bounded over all logs: `room` returns when there is some."""

    def __init__(self, settings: Settings, store: PartStore, clock: Clock, tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._limits = Limits(settings.part_bytes, settings.part_age_seconds, settings.hole_seconds)
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._logs: dict[LogId, ActiveLog] = {}
        self._slots = asyncio.Semaphore(settings.concurrent_writes)
        self._room = asyncio.Event()
        self._held_bytes = 0
        self._open_bytes = 0
        self._superseded: list[str] = []
        self._writer = random_id()[:8]

    # ── chunks in

    async def room(self) -> None:
        """Waits while too much is held in memory; the largest log is written meanwhile."""
        while self._held_bytes >= self._settings.memory_bytes:
            self._room.clear()
            largest = max(self._logs.values(), key=lambda log: log.buffer.held_bytes)
            self._flush(largest)
            await self._room.wait()

    async def take(self, which: LogId, chunk: LogChunk, seq: int, arrived_unix_ms: int, *, fresh: bool) -> None:
        """`fresh`: no collector can have seen the beginning of this log before. Raises Unavailable."""
        active = self._logs.get(which)
        if active is None:
            stored = Stored() if fresh and chunk.offset == 0 else await self._store.load(which)
            active = self._logs[which] = self._revive(which, stored)
        active.touched = now = self._clock.monotonic()
        before = active.buffer.held_bytes
        policy.append(active.buffer, chunk, seq, arrived_unix_ms, now)
        self._held_bytes += active.buffer.held_bytes - before
        self._proceed(active)

    def _revive(self, which: LogId, stored: Stored) -> ActiveLog:
        # Holes that were there when nothing came for long count as given up already.
        silent_seconds = max(0.0, self._clock.now() - stored.newest_unix)
        buffer = LogBuffer.stored(stored.spans(), stored.total, self._clock.monotonic() - silent_seconds)
        return ActiveLog(which, buffer, list(stored.parts))

    # ── parts out

    def _proceed(self, active: ActiveLog) -> None:
        if active.timer is not None:
            active.timer.cancel()
            active.timer = None
        now = self._clock.monotonic()
        match policy.decide(active.buffer, now, self._limits):
            case Write() as write:
                policy.start(active.buffer, write)
                self._tasks.create_task(self._write(active, write))
            case WaitUntil(instant):
                later = asyncio.get_running_loop().call_later
                active.timer = later(max(0.0, instant - now), self._proceed, active)
            case None:
                if active.buffer.idle:
                    self._settle(active)

    def _settle(self, active: ActiveLog) -> None:
        """Nothing of it waits any more."""
        active.wake()
        if active.buffer.complete:
            self._evict(active)

    async def _write(self, active: ActiveLog, write: Write) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            try:
                async with self._slots:
                    await self._store_part(active, write)
                break
            except OverspillError as error:
                log.warning("part_put_off", log=active.id, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_SECONDS[1])
        before = active.buffer.held_bytes
        policy.wrote(active.buffer, self._clock.monotonic())
        if self._logs.get(active.id) is active:
            self._held_bytes += active.buffer.held_bytes - before
            self._room.set()
            self._proceed(active)

    async def _store_part(self, active: ActiveLog, write: Write) -> None:
        if active.hashed == write.start:
            await _aside(write, _hash, active, write)
        verdict = await self._verdict(active, write, write.end) if write.end is not None else None
        blob = await _aside(write, parts.encode, write.pieces, verdict, active.buffer.written_bytes)
        first_ms = write.pieces[0].times[0][1] if write.pieces else int(self._clock.now() * 1000)
        begin = write.start
        grown = active.open if active.open is not None and active.open.name.end == write.start else None
        if grown is not None:
            begin, first_ms, blob = grown.name.start, grown.name.first_unix_ms, grown.blob + blob
        name = PartName(begin, write.stop, first_ms, len(blob), self._writer, verdict is not None)
        await self._store.put(active.id, name, blob)
        crash_point("log-collector.after-part-before-durable")
        count(LOG_STORED, write.stop - write.start)
        if grown is not None:
            active.parts = [other for other in active.parts if other != grown.name]
            self._superseded.append(grown.name.key(active.id))
            crash_point("log-collector.after-replacement-before-delete")
        active.parts.append(name)
        if self._logs.get(active.id) is active:
            self._keep_open(active, name, blob)

    def _keep_open(self, active: ActiveLog, name: PartName, blob: bytes) -> None:
        self._open_bytes -= len(active.open.blob) if active.open is not None else 0
        small = len(blob) < self._settings.grow_bytes and name.end - name.start < self._settings.part_bytes
        keep = small and not name.ends and self._open_bytes + len(blob) <= OPEN_BYTES
        active.open = OpenPart(name, blob) if keep else None
        self._open_bytes += len(blob) if keep else 0

    async def _verdict(self, active: ActiveLog, write: Write, end: End) -> Verdict:
        verified, whole = None, active.buffer.durable.covers(Span(0, write.start))
        if whole and end.sha256 is not None:
            hasher = active.hasher if active.hashed == write.stop else await self._hash_stored(active, write)
            verified = hasher.hexdigest() == end.sha256 if hasher is not None else None
        if verified is False:
            log.error("log_differs_from_what_was_sent", log=active.id, total=end.total, said=end.sha256)
        elif not whole:
            log.warning("log_has_holes", log=active.id, total=end.total, known=active.buffer.known_bytes)
        return Verdict(end.total, end.sha256, verified)

    async def _hash_stored(self, active: ActiveLog, write: Write) -> Any:
        """After a takeover the sum so far is made anew from the parts; None when they can't be read."""
        hasher, position = hashlib.sha256(), 0
        try:
            await self.reload(active.id)
            for name in sorted(active.parts):
                if name.end > position:
                    part = await self._store.read(active.id, name)
                    data = part.data[position - part.start : write.start - part.start]
                    await asyncio.to_thread(hasher.update, data)
                    position += len(data)
        except (NotFound, DamagedPart) as error:
            log.error("log_not_verified", log=active.id, error=str(error))  # noqa: TRY400 - our own word for it
            return None
        for piece in write.pieces:
            hasher.update(piece.data)
        return hasher

    # ── what others ask

    def view(self, which: LogId, patience_seconds: float) -> View | None:
        """As of now, unstored bytes included; None when it isn't in memory. Holes older than that are given up."""
        active = self._logs.get(which)
        if active is None:
            return None
        buffer = active.buffer
        gaps = policy.holes(buffer, self._clock.monotonic(), replace(self._limits, hole_seconds=patience_seconds))
        total = None if buffer.end is None else buffer.end.total
        return View(tuple(active.parts), tuple(buffer.unwritten()), gaps, total, buffer.written_bytes)

    def is_whole(self, which: LogId) -> bool:
        """Its end came, and all before it."""
        active = self._logs.get(which)
        return active is not None and active.buffer.is_whole

    async def reload(self, which: LogId) -> None:
        """Another collector replaced parts that we know: look again where the bytes are. Raises Unavailable."""
        stored = await self._store.load(which)
        active = self._logs.get(which)
        if active is not None:
            ours = [name for name in active.parts if name.writer == self._writer]
            active.parts = list(without_superseded({*stored.parts, *ours}))

    async def flushed(self, which: LogId) -> None:
        """Writes what waits of it now; returns when nothing waits any more."""
        active = self._logs.get(which)
        if active is None or active.buffer.idle:
            return
        done = asyncio.get_running_loop().create_future()
        active.waiters.append(done)
        self._flush(active)
        await done

    def durable(self, which: LogId) -> tuple[int, bool] | None:
        """(bytes from 0 without a gap, complete); None when it isn't in memory."""
        active = self._logs.get(which)
        return None if active is None else (active.buffer.durable.prefix_end, active.buffer.complete)

    def _flush(self, active: ActiveLog) -> None:
        active.buffer.flush = True
        self._proceed(active)

    async def flush_all(self, belongs: Callable[[LogId], bool]) -> None:
        await asyncio.gather(*(self.flushed(which) for which in list(self._logs) if belongs(which)))

    def floor(self, belongs: Callable[[LogId], bool]) -> int | None:
        """The oldest message of these logs that is not durable."""
        seqs = (active.buffer.oldest_seq() for which, active in self._logs.items() if belongs(which))
        return min((seq for seq in seqs if seq is not None), default=None)

    # ── out of memory again

    def drop(self, belongs: Callable[[LogId], bool]) -> None:
        """Another collector has them now. What is being written is written to its end, which harms nobody."""
        for active in [active for which, active in self._logs.items() if belongs(which)]:
            self._evict(active)

    def drop_idle(self) -> None:
        """Forget logs that say nothing; they are read from the object store when they speak again."""
        horizon = self._clock.monotonic() - self._settings.idle_seconds
        idle = [active for active in self._logs.values() if active.buffer.idle]
        surplus = max(0, len(self._logs) - MAX_LOGS)
        for index, active in enumerate(sorted(idle, key=lambda active: active.touched)):
            if index >= surplus and active.touched > horizon:
                break
            self._evict(active)

    def _evict(self, active: ActiveLog) -> None:
        if active.timer is not None:
            active.timer.cancel()
        if self._logs.get(active.id) is active:
            del self._logs[active.id]
            self._held_bytes -= active.buffer.held_bytes
            self._open_bytes -= len(active.open.blob) if active.open is not None else 0
            active.open = None
            self._room.set()
        active.wake()

    def close(self) -> None:
        """No timer fires after this."""
        for active in self._logs.values():
            if active.timer is not None:
                active.timer.cancel()

    async def remove_superseded(self) -> None:
        """Delete parts that have a longer successor. What a crash leaves behind is passed over by readers."""
        keys = frozenset(self._superseded)
        try:
            await self._store.remove(keys)
        except OverspillError as error:
            log.warning("superseded_parts_stay", count=len(keys), error=str(error))
        else:
            self._superseded = [key for key in self._superseded if key not in keys]
