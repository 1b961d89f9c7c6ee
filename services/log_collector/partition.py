"""Reading one partition: chunks in stream order from the last checkpoint on."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import structlog

from services.log_collector.active import ActiveLogs
from services.log_collector.model import LogId
from services.log_collector.sharing import partition_of
from shared.burying import bury
from shared.bus import Bus, Message
from shared.crash_points import crash_point
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts.log import LogChunk
from shared.flow import LEASE, LOG, LOG_PARTITIONS, LogAt
from shared.telemetry import system_error

log = structlog.get_logger()

RETRY_SECONDS = 0.5


class Checkpoints:
    """Per partition: every chunk up to this sequence is durable. True whoever wrote it; an old one only costs time."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.bucket(LEASE)

    async def get(self, partition: int) -> int:
        entry = await self._bucket.get(self._key(partition))
        return int(entry.value) if entry is not None and entry.value.isdigit() else 0

    async def floor(self) -> int:
        """Every chunk up to this sequence is durable, whatever its partition."""
        return min([await self.get(partition) for partition in range(LOG_PARTITIONS)])

    async def put(self, partition: int, seq: int) -> None:
        await self._bucket.put(self._key(partition), str(seq).encode())

    @staticmethod
    def _key(partition: int) -> str:
        return f"log-collector.checkpoint.{partition}"


def chunk_of(message: Message) -> LogChunk:
    """Raises Poison."""
    return LogChunk.read(dict(message.headers), message.data)


class PartitionReader:
    """Reads while `run` runs. `position`: the newest sequence that was taken."""

    def __init__(self, partition: int, bus: Bus, logs: ActiveLogs, checkpoints: Checkpoints) -> None:
        self.partition = partition
        self.position = 0
        self._bus = bus
        self._logs = logs
        self._checkpoints = checkpoints
        self._told = 0
        self._old_end: int | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def owns(self, which: LogId) -> bool:
        return partition_of(which.tenant, which.job) == self.partition

    @property
    def caught_up(self) -> bool:
        """What was in the stream when reading began has been taken: memory and store together know everything."""
        return self._old_end is not None and self.position >= self._old_end

    async def run(self) -> None:
        """Never ends by itself."""
        start = await self._begin()
        messages = self._bus.tail(LOG, LogAt.filter(partition=self.partition), from_seq=start + 1)
        async with contextlib.aclosing(cast("AsyncGenerator[Message, None]", messages)):
            async for message in messages:
                await self._logs.room()
                await self._take(message)
                self.position = message.seq
                self._wake()

    async def _begin(self) -> int:
        """The sequence up to which all is durable."""
        while True:
            try:
                newest = await self._bus.last(LOG, LogAt.filter(partition=self.partition))
                # A stream that was made anew counts from 1 again.
                end = newest.seq if newest is not None else 0
                told, stream_end = await self._checkpoints.get(self.partition), await self._bus.end_seq(LOG)
                start = min(told, stream_end)
                if start < told:
                    await self._checkpoints.put(self.partition, start)
            except OverspillError as error:
                log.warning("partition_not_begun", partition=self.partition, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.position = self._told = start
                self._old_end = end
                self._wake()
                return start

    async def _take(self, message: Message) -> None:
        try:
            which = LogId.of(LogAt.parse(message.subject))
            chunk = chunk_of(message)
        except Poison as error:
            await self._bury(message, str(error))
            return
        fresh = self._old_end is not None and message.seq > self._old_end
        while True:
            try:
                await self._logs.take(which, chunk, message.seq, message.time_unix_ns // 1_000_000, fresh=fresh)
            except Unavailable as error:
                log.warning("chunk_waits_for_the_store", log=which, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _bury(self, message: Message, why: str) -> None:
        system_error("poison")
        log.warning("chunk_buried", subject=message.subject, why=why)
        try:
            await bury(self._bus, "log-collector", message, why)
        except OverspillError as error:
            # It stays in LOG for as long as LOG keeps anything; reading goes on.
            log.error("chunk_not_buried", seq=message.seq, error=str(error))  # noqa: TRY400

    async def taken(self, seq: int) -> None:
        """Returns when everything up to `seq` was taken."""
        if self.position < seq:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((seq, waiter))
            await waiter

    def _wake(self) -> None:
        if self._waiters:
            for seq, waiter in self._waiters:
                if seq <= self.position and not waiter.done():
                    waiter.set_result(None)
            self._waiters = [(seq, waiter) for seq, waiter in self._waiters if not waiter.done()]

    async def tell_checkpoint(self, stream_end: int) -> None:
        """`stream_end`: the stream's newest sequence a moment ago."""
        if self._old_end is None:
            return
        if self.position == self._told < stream_end:
            await self._pass_others(stream_end)
        floor = self._logs.floor(self.owns)
        seq = self.position if floor is None else min(self.position, floor - 1)
        if seq > self._told:
            crash_point("log-collector.after-part-before-checkpoint")
            await self._checkpoints.put(self.partition, seq)
            self._told = seq

    async def _pass_others(self, stream_end: int) -> None:
        """A partition that says nothing must not keep what others said from being purged."""
        newest = await self._bus.last(LOG, LogAt.filter(partition=self.partition))
        if newest is None or newest.seq <= self.position:
            self.position = max(self.position, stream_end)
