"""Everything this service is made of, from top to bottom."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from services.cache.handlers import Door
from services.cache.settings import Settings
from services.cache.sweep import sweep_due, sweep_logs
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.errors import OverspillError, Poison
from shared.flow import TENANTS, Ask, Svc
from shared.health import STORE, healthy
from shared.objects import Objects
from shared.tenancy import TenantRecord
from shared.wire import decode

log = structlog.get_logger()

QUEUE = "cache"
STORE_SECONDS = 2.0
"""The object store may take this long to say whether it has an object."""


async def serve(
    settings: Settings, bus: Bus, objects: Objects, ready: asyncio.Event, clock: Clock | None = None
) -> None:
    """Runs until cancelled. `ready` is set once questions are answered."""
    clock = clock or SystemClock()
    door = Door(settings, bus, objects, clock)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for subject, responder in (
            (str(Svc("cache", "source-upload")), door.source_upload),
            (str(Svc("cache", "source-check")), door.source_check),
            (str(Svc("cache", "download")), door.download),
            (str(Svc("cache", "forget")), door.forget),
            (Ask.filter(op="urls"), door.urls),
        ):
            await stack.enter_async_context(bus.serve(subject, responder, queue=QUEUE))
        await stack.enter_async_context(healthy(bus, QUEUE))
        await stack.enter_async_context(healthy(bus, QUEUE, lambda: _complaints(objects), op=STORE))
        ready.set()
        log.info("cache_ready")

        async def due() -> None:
            await sweep_due(objects, clock.now(), settings.sweep_limit)

        async def logs() -> None:
            keep = await _log_keep_seconds(bus)
            await sweep_logs(objects, keep, clock.now())

        tasks.create_task(_every(settings.sweep_every_seconds, due))
        tasks.create_task(_every(settings.log_sweep_every_seconds, logs))


async def _complaints(objects: Objects) -> list[str]:
    try:
        async with asyncio.timeout(STORE_SECONDS):
            await objects.info("health")
    except TimeoutError:
        return [f"it did not answer within {STORE_SECONDS:g} s: logs and artifacts wait for it"]
    except OverspillError as error:
        return [str(error)]
    return []


async def _log_keep_seconds(bus: Bus) -> dict[str, float]:
    """By tenant. Logs of a tenant without a readable record stay."""
    keep: dict[str, float] = {}
    for tenant, entry in (await bus.bucket(TENANTS).all()).items():
        try:
            keep[tenant] = decode(TenantRecord, entry.value).log_retention_seconds
        except Poison as poison:
            log.error("tenant_record_ignored", tenant=tenant, why=str(poison))  # noqa: TRY400 - the message says it
    return keep


async def _every(seconds: float, sweep: Callable[[], Awaitable[None]]) -> None:
    """The first sweep comes after a whole interval: a start has better things to do."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await sweep()
        except OverspillError as error:
            log.warning("sweep_put_off", error=str(error))
