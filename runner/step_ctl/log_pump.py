"""Carries one log from its file to the bus: chunks in order, a window of them under way, each once more after a
failure.
"""

import asyncio
import hashlib
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

import structlog

from runner.step_ctl.courier import Courier
from runner.step_ctl.log_times import LogTimes
from runner.step_ctl.masking import Mask
from shared.crash_points import crash_point
from shared.errors import StreamFull, Unavailable
from shared.facts.log import CHUNK_LIMIT_BYTES, LogChunk

log = structlog.get_logger()

FLUSH_SECONDS = 0.08
"""The first byte that waits never waits longer before it is sent."""
WINDOW = 8
"""Chunks under way at most."""
SLOW_SECONDS = 1.0
"""A chunk that takes longer says that the bus has much to do: fewer are under way then, one at least."""
HASH_BLOCK_BYTES = 1_048_576


class LogPump:
    """The file is the buffer: in memory is what is under way, at most WINDOW chunks."""

    def __init__(self, step: int, directory: Path, courier: Courier, mask: Mask, begin: int = 0) -> None:
        self.step = step
        self.grown = asyncio.Event()
        self._path = directory / "log"
        self._times = LogTimes(directory / "log.idx")
        self._courier = courier
        self._mask = mask
        self._at = begin
        self._fd = -1
        self._ended = False
        self._sent_last = False
        self._round = 0
        self._refused_since: float | None = None
        self._due: float | None = None
        self._window = WINDOW
        self._under_way: deque[tuple[LogChunk, asyncio.Task[None]]] = deque()
        self._hash = hashlib.sha256()
        self._hashed = 0

    def end(self) -> None:
        """Nothing will be written any more: the last chunk may say so."""
        self._ended = True
        self.grown.set()

    def refused_for(self, now: float) -> float:
        """Seconds since which the stream has had no room for this log; 0 while it takes chunks."""
        return 0.0 if self._refused_since is None else now - self._refused_since

    def rewind(self, offset: int) -> None:
        """Send again from `offset` on. For a pump that doesn't run."""
        self._at = offset
        self._sent_last = False

    def send_again(self, offset: int) -> None:
        """Like `rewind`, for what the stream has had and lost, or the store: under ids that it has not seen."""
        self._round += 1
        self.rewind(offset)

    async def run(self) -> int:
        """Until the stream has the last chunk. Returns the log's length."""
        if self._hashed < self._at:
            await asyncio.to_thread(self._hash_up_to, self._at)
        patience = self._courier.patience()
        try:
            while True:
                self.grown.clear()
                if (arrived := self._take_arrived()) is not None:
                    crash_point("step-ctl.mid-log")
                    patience.reset()
                    if arrived.last:
                        return arrived.end
                elif self._failed():
                    await self._step_back()
                    await patience.pause()
                elif len(self._under_way) < self._window and (chunk := self._cut()) is not None:
                    task = asyncio.create_task(self._send(chunk))
                    task.add_done_callback(self._wake)
                    self._under_way.append((chunk, task))
                else:
                    await self._wait()
        finally:
            await self._drop_under_way()
            self._close()

    async def _send(self, chunk: LogChunk) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._courier.send(self.step, chunk, self._round)
        is_slow = clock() - began > SLOW_SECONDS
        self._window = max(1, self._window // 2) if is_slow else min(WINDOW, self._window + 1)

    def _close(self) -> None:
        self._times.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take_arrived(self) -> LogChunk | None:
        if not self._under_way:
            return None
        chunk, task = self._under_way[0]
        if not task.done() or task.exception() is not None:
            return None
        self._under_way.popleft()
        self._refused_since = None
        return chunk

    def _failed(self) -> bool:
        return bool(self._under_way) and self._under_way[0][1].done()

    async def _step_back(self) -> None:
        """The stream keeps order: what followed the failed chunk is sent again after it."""
        chunk, task = self._under_way[0]
        error = task.exception()
        if not isinstance(error, Unavailable) and error is not None:
            raise error
        if self._refused_since is None and isinstance(error, StreamFull):
            self._refused_since = asyncio.get_running_loop().time()
        log.info("log_waits", step=self.step, offset=chunk.offset, why=str(error))
        await self._drop_under_way()
        self.rewind(chunk.offset)

    async def _drop_under_way(self) -> None:
        tasks = [task for _, task in self._under_way]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cut(self) -> LogChunk | None:
        """The next chunk, if one is due."""
        if self._sent_last:
            return None
        ended = self._ended  # before the size: what comes after is not of this log
        size = self._size()
        available = size - self._at
        if not ended and available < CHUNK_LIMIT_BYTES:
            now = asyncio.get_running_loop().time()
            if available <= 0:
                self._due = None
                return None
            if self._due is None:
                self._due = now + FLUSH_SECONDS
            if now < self._due:
                return None
        if ended and available <= CHUNK_LIMIT_BYTES and self._under_way:
            # The end must not overtake a chunk that the bus refuses for now: it would look as if that were lost.
            return None
        self._due = None
        return self._read(size, ended=ended)

    def _read(self, size: int, *, ended: bool) -> LogChunk | None:
        data = os.pread(self._fd, min(CHUNK_LIMIT_BYTES, size - self._at), self._at) if size > self._at else b""
        whole = ended and self._at + len(data) >= size
        data = self._mask.cover(data) if whole else self._mask.cover_open(data)
        if not data and not whole:
            return None
        times, cut = self._times.between(self._at, self._at + len(data)) if data else ((), self._at)
        last = whole and cut == self._at + len(data)
        data = data[: cut - self._at]
        begin, self._at = self._at, self._at + len(data)
        if begin <= self._hashed < self._at:
            self._hash.update(data[self._hashed - begin :])
            self._hashed = self._at
        if not last:
            return LogChunk(begin, data, times, written_bytes=size)
        self._sent_last = True
        # A file cut short by a loss of power no longer has what was sent of it: its sum isn't known.
        return LogChunk(begin, data, times, self._at, self._hash.hexdigest() if self._hashed == self._at else None)

    def _size(self) -> int:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return 0
        return os.fstat(self._fd).st_size

    def _hash_up_to(self, end: int) -> None:
        size = self._size()
        while self._hashed < min(end, size):
            block = os.pread(self._fd, min(HASH_BLOCK_BYTES, end - self._hashed), self._hashed)
            # `end` is a border between chunks, and no secret stands across one.
            covered = self._mask.cover(block) if self._hashed + len(block) >= end else self._mask.cover_open(block)
            self._hash.update(covered)
            self._hashed += len(covered)

    async def _wait(self) -> None:
        """Until the log has grown, the oldest chunk under way has arrived or failed, or what waits is due."""
        due = self._due if len(self._under_way) < self._window else None
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self.grown.wait()

    def _wake(self, _: asyncio.Task[None]) -> None:
        self.grown.set()
