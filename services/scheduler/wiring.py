"""Everything this service is made of, from top to bottom."""

import asyncio
import contextlib
from contextlib import AsyncExitStack

import structlog

from services.scheduler.following import Follower
from services.scheduler.handlers import Desk
from services.scheduler.leading import Leader
from services.scheduler.lease import Lease
from services.scheduler.settings import Settings
from services.scheduler.state import State
from shared.backoff import until_available
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.flow import LEASE, Ask, Edge, Svc
from shared.health import healthy
from shared.ids import random_id

log = structlog.get_logger()

NAME = "scheduler"


async def serve(
    settings: Settings,
    bus: Bus,
    ready: asyncio.Event,
    clock: Clock | None = None,
    leading: asyncio.Event | None = None,
) -> None:
    """Runs until cancelled. `ready` is set once questions are answered; `leading` while this instance leads."""
    clock = clock or SystemClock()
    state = State(settings.rules())
    lease = Lease(bus, clock, NAME, random_id(), settings.lease_seconds)
    changed = asyncio.Event()
    follower = Follower(bus, clock, state, changed.set)
    leader = Leader(settings, bus, clock, state, follower, lease, changed)
    desk = Desk(bus, clock, state, follower)
    await until_available("the state", follower.load)
    bus.on_reconnect(follower.resumed)
    came_back = asyncio.Event()
    bus.on_reconnect(came_back.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        await stack.enter_async_context(bus.serve(str(Svc(NAME, "why")), desk.why, queue=NAME))
        await stack.enter_async_context(healthy(bus, NAME, lambda: _complaints(bus)))
        await stack.enter_async_context(bus.serve(Edge.filter(op="orders"), desk.orders, queue=NAME))
        await stack.enter_async_context(bus.serve(Ask.filter(op="desired"), desk.desired, queue=NAME))
        tasks.create_task(follower.follow())
        tasks.create_task(leader.stand(leading or asyncio.Event()))
        tasks.create_task(_audit(follower, settings.audit_seconds, came_back))
        ready.set()


async def _complaints(bus: Bus) -> list[str]:
    led = await bus.bucket(LEASE).get(NAME)
    return [] if led is not None else ["no scheduler leads: nothing is placed until one has the lease"]


async def _audit(follower: Follower, every_seconds: float, came_back: asyncio.Event) -> None:
    """Now and then, and when the connection came back: a server that was killed may have forgotten its last purges."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_seconds):
                await came_back.wait()
        came_back.clear()
        try:
            await follower.audit()
        except Unavailable as error:
            log.info("audit_put_off", why=str(error))
