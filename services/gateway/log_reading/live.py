"""Live chunks of followed jobs: one bus subscription a job, however many follow it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from services.gateway.projection.followers import JobKey
from shared.bus import Bus, Message
from shared.errors import Poison, Unavailable
from shared.facts.log import LogChunk
from shared.flow import Tail

WAITING_CHUNKS = 256
"""Of one follower: 16 MiB at most. A slower one loses the oldest and reads the truth again."""


@dataclass(frozen=True, slots=True)
class LiveChunk:
    epoch: int
    step: int
    chunk: LogChunk


class Wake(Enum):
    MISSED = "chunks may have been missed: read the truth"
    JOB_CHANGED = "look at the job's record"


class Waiting:
    """A follower's bounded queue of live chunks and reasons to look elsewhere."""

    def __init__(self) -> None:
        self._chunks: deque[LiveChunk] = deque()
        self._wakes: list[Wake] = []
        self._event = asyncio.Event()

    def put(self, chunk: LiveChunk) -> None:
        if len(self._chunks) >= WAITING_CHUNKS:
            self._chunks.clear()
            self.missed()
        else:
            self._chunks.append(chunk)
        self._event.set()

    def missed(self) -> None:
        self._wake(Wake.MISSED)

    def tell(self) -> None:
        """The job changed."""
        self._wake(Wake.JOB_CHANGED)

    def _wake(self, wake: Wake) -> None:
        if wake not in self._wakes:
            self._wakes.append(wake)
        self._event.set()

    async def next(self, timeout_seconds: float) -> LiveChunk | Wake:
        """Chunks first, so that a job's end finds them shown. MISSED when nothing came in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return Wake.MISSED
        found = self._chunks.popleft() if self._chunks else self._wakes.pop(0)
        if not self._chunks and not self._wakes:
            self._event.clear()
        return found


@dataclass(slots=True)
class _Job:
    followers: set[Waiting] = field(default_factory=set)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    pump: asyncio.Task[None] | None = None


class LiveLogs:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: dict[JobKey, _Job] = {}
        bus.on_reconnect(self.look_again)

    def look_again(self) -> None:
        for job in self._jobs.values():
            for follower in job.followers:
                follower.missed()

    @asynccontextmanager
    async def follow(self, key: JobKey) -> AsyncIterator[Waiting]:
        """Everything published after this is entered arrives, or is told as a reason to look again."""
        job = self._jobs.setdefault(key, _Job())
        waiting = Waiting()
        job.followers.add(waiting)
        if job.pump is None:
            job.pump = asyncio.create_task(self._pump(key, job))
        try:
            await self._subscribed(job)
            yield waiting
        finally:
            job.followers.discard(waiting)
            if not job.followers:
                if self._jobs.get(key) is job:
                    del self._jobs[key]
                job.pump.cancel()
                with contextlib.suppress(asyncio.CancelledError, Unavailable):
                    await job.pump

    async def _subscribed(self, job: _Job) -> None:
        """Raises Unavailable when the subscription failed."""
        ready = asyncio.create_task(job.ready.wait())
        pump = job.pump
        try:
            if pump is not None:
                await asyncio.wait({ready, pump}, return_when=asyncio.FIRST_COMPLETED)
                if pump.done() and not job.ready.is_set():
                    pump.result()
        finally:
            ready.cancel()

    async def _pump(self, key: JobKey, job: _Job) -> None:
        tenant, name = key
        async with self._bus.listen(Tail.filter(tenant=tenant, job=name), limit=WAITING_CHUNKS) as messages:
            job.ready.set()
            async for message in messages:
                chunk = _read(message)
                for follower in job.followers:
                    if chunk is None:
                        follower.missed()
                    else:
                        follower.put(chunk)


def _read(message: Message) -> LiveChunk | None:
    """None: a runner wrote nonsense; the log-collector knows what of it is the log."""
    try:
        tail = Tail.parse(message.subject)
        return LiveChunk(tail.epoch, tail.step, LogChunk.read(dict(message.headers), message.data))
    except Poison:
        return None
