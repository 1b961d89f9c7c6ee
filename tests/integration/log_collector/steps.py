"""A runner's side of a log, and a collector to take it."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.log_collector.model import LogId
from services.log_collector.settings import Settings
from services.log_collector.wiring import serve
from shared.bus import Bus
from shared.facts.log import CHUNK_LIMIT_BYTES, LogChunk
from shared.flow import Ask, Svc
from shared.ids import random_id
from shared.objects import Objects
from shared.requests import ANSWER, DurableAsked, DurableTold, LogAsked, LogTold
from shared.wire import decode, encode

PATIENCE_SECONDS = 40


def quick(instance: str = "one", **more: object) -> Settings:
    """Settings with which nothing has to be waited for long."""
    given: dict[str, object] = {
        "part_age_seconds": 0.1,
        "checkpoint_seconds": 0.1,
        "member_ttl_seconds": 2.0,
        "leave_seconds": 5.0,
    }
    return Settings.model_validate({"instance": instance, **given, **more})


@contextlib.asynccontextmanager
async def collecting(settings: Settings, bus: Bus, objects: Objects) -> AsyncIterator[asyncio.Task[None]]:
    ready = asyncio.Event()
    task = asyncio.create_task(serve(settings, bus, objects, ready))
    waiting = asyncio.create_task(ready.wait())
    done, _ = await asyncio.wait({task, waiting}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    assert waiting in done, task
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@dataclass
class Step:
    """Publishes a log as a runner does."""

    bus: Bus
    id: LogId = field(default_factory=lambda: LogId("acme", random_id(), 1, 1))
    sent: int = 0
    hasher: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    async def say(self, data: bytes, ms: int | None = None) -> None:
        for first in range(0, len(data), CHUNK_LIMIT_BYTES):
            piece = data[first : first + CHUNK_LIMIT_BYTES]
            await self.send(LogChunk(self.sent, piece, ((self.sent, ms),) if ms is not None else ()))
            self.hasher.update(piece)
            self.sent += len(piece)

    async def end(self) -> None:
        await self.send(LogChunk(self.sent, b"", (), self.sent, self.hasher.hexdigest()))

    async def send(self, chunk: LogChunk) -> None:
        await self.bus.publish(self.id.subject, chunk.data, headers=chunk.headers(), timeout_seconds=PATIENCE_SECONDS)

    async def durable(self, *, flush: bool) -> DurableTold:
        who = Ask(self.id.tenant, self.id.job, self.id.epoch, "durable")
        answer = await self.bus.request(
            who, encode(DurableAsked(steps=[self.id.step], flush=flush)), timeout_seconds=10
        )
        return decode(DurableTold, answer.data)

    async def until_complete(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.id.step not in (await self.durable(flush=True)).complete:
                pass

    async def page(self, offset: int = 0, **more: object) -> tuple[bytes, LogTold]:
        return await read_page(self.bus, self.id, offset, **more)

    async def log(self) -> tuple[bytes, LogTold]:
        return await read_all(self.bus, self.id)


async def read_page(bus: Bus, which: LogId, offset: int = 0, **more: object) -> tuple[bytes, LogTold]:
    asked = LogAsked(tenant=which.tenant, job=which.job, epoch=which.epoch, step=which.step, offset=offset, **more)  # type: ignore[arg-type]
    answer = await bus.request(Svc("log-collector", "read"), encode(asked), timeout_seconds=10)
    return answer.data, LogTold.model_validate(json.loads(answer.headers[ANSWER]))


async def read_all(bus: Bus, which: LogId) -> tuple[bytes, LogTold]:
    data, position = b"", 0
    while True:
        page, told = await read_page(bus, which, position)
        data += page
        position = told.offset + len(page)
        if not page:
            return data, told
