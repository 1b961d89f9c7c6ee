"""Everything this service is made of, from top to bottom."""

import asyncio
import contextlib

from services.cluster_metrics.handlers import Watch
from services.cluster_metrics.settings import Settings
from shared.backoff import until_available
from shared.bus import Bus
from shared.clock import Clock, SystemClock
from shared.crash_points import crash_point
from shared.flow import Beat
from shared.health import healthy


async def serve(settings: Settings, bus: Bus, ready: asyncio.Event, clock: Clock | None = None) -> None:
    """Runs until cancelled. `ready` is set once beats are heard."""
    heard = asyncio.Event()
    watch = Watch(settings, bus, clock or SystemClock())
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        beats = await until_available("beats", lambda: stack.enter_async_context(bus.listen(Beat.filter())))
        await stack.enter_async_context(healthy(bus, "cluster-metrics"))
        await until_available("the pictures told before", watch.restore)
        crash_point("cluster-metrics.after-restore-before-beats")
        bus.on_reconnect(watch.resume)

        async def hear() -> None:
            async for message in beats:
                if await watch.on_beat(message):
                    heard.set()

        async def tell() -> None:
            while True:
                heard.clear()
                await watch.tick()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.tick_seconds):
                        await heard.wait()

        tasks.create_task(hear())
        tasks.create_task(tell())
        tasks.create_task(watch.follow_clusters())
        ready.set()
