"""Everything this service is made of, from top to bottom."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from services.log_collector.active import ActiveLogs
from services.log_collector.collector import Collector
from services.log_collector.handlers import Desk
from services.log_collector.membership import Membership
from services.log_collector.settings import Settings
from services.log_collector.store import PartStore
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.health import healthy
from shared.objects import Objects
from shared.pulse import Pulse

log = structlog.get_logger()

QUEUE = "log-collector"


async def serve(
    settings: Settings,
    bus: Bus,
    objects: Objects,
    ready: asyncio.Event,
    clock: Clock | None = None,
    pulse: Pulse | None = None,
) -> None:
    """Runs until cancelled. `ready` is set once its partitions are read and questions are answered."""
    clock, pulse = clock or SystemClock(), pulse or Pulse(None)
    store = PartStore(objects, clock)
    membership = Membership(bus, settings.instance, settings.member_ttl_seconds)
    async with asyncio.TaskGroup() as tasks:
        logs = ActiveLogs(settings, store, clock, tasks)
        collector = Collector(settings, bus, logs, membership, tasks)
        desk = Desk(settings, bus, logs, store, collector, clock)
        tasks.create_task(membership.hold(collector.share, pulse.beat))
        tasks.create_task(collector.keep())
        async with AsyncExitStack() as stack:
            for subject, responder in desk.own_subjects():
                await stack.enter_async_context(bus.serve(subject, responder))
            await collector.sharing.wait()
            for subject, responder in desk.shared_subjects():
                await stack.enter_async_context(bus.serve(subject, responder, queue=QUEUE))
            await stack.enter_async_context(healthy(bus, QUEUE))
            ready.set()
            log.info("log_collector_ready", instance=settings.instance)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await collector.leave()
                logs.close()
