"""A bus that takes requests and answers none for a while, as on a machine with too much to do, ends nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from overspill.hub_accounts import follow
from runner.agent.settings import Settings as AgentSettings
from runner.agent.wiring import serve as serve_agent
from services.cache.settings import Settings as CacheSettings
from services.cache.wiring import serve as serve_cache
from services.cluster_metrics.settings import Settings as MetricsSettings
from services.cluster_metrics.wiring import serve as serve_metrics
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.wiring import serve as serve_gateway
from services.log_collector.settings import Settings as LogSettings
from services.log_collector.wiring import serve as serve_logs
from services.scheduler.settings import Settings as SchedulerSettings
from services.scheduler.wiring import serve as serve_scheduler
from shared.adapters.accounts import Accounts
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import SEEDER
from shared.adapters.s3_objects import S3Objects
from shared.adapters.service_bus import service_bus
from shared.errors import Unavailable
from shared.flow import TENANTS, Beat
from shared.parties import CACHE, CLUSTER_METRICS, GATEWAY, LOG_COLLECTOR, SCHEDULER, Party
from shared.settings import ObjectSettings
from tests.conftest import BusServer
from tests.memory_bus import MemoryBus, MemoryServer

LIMIT_SECONDS = 60.0
Logged = list[Any]


async def until(holds: Callable[[], bool]) -> None:
    """What a log says has no other event."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def waited_for(logged: Logged) -> set[str]:
    return {line["what"] for line in logged if line["event"] == "waits"}


@asynccontextmanager
async def connected(server: BusServer, *parties: Party) -> AsyncIterator[list[NatsBus]]:
    async with AsyncExitStack() as stack:
        credentials = [server.identity.credential(party) for party in parties]
        yield [await stack.enter_async_context(server.connect(credential)) for credential in credentials]


@asynccontextmanager
async def ended(tasks: list["asyncio.Task[None]"]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_watch_that_begins_meanwhile_tells_everything_once_the_bus_answers(fresh_bus_server: BusServer) -> None:
    async with connected(fresh_bus_server, SEEDER) as (bus,):
        await bus.bucket(TENANTS).put("acme", b"1")
        watch = bus.bucket(TENANTS).watch()
        first = asyncio.ensure_future(anext(watch))
        with capture_logs() as logged, fresh_bus_server.paused():
            await until(lambda: "KV_TENANTS" in waited_for(logged) or first.done())
            assert not first.done(), (first, logged)
        async with asyncio.timeout(LIMIT_SECONDS):
            assert (await first).value == b"1"
            await bus.bucket(TENANTS).put("acme", b"2")
            assert (await anext(watch)).value == b"2"
        await watch.aclose()


@pytest.mark.parametrize("patience_seconds", [0.2, LIMIT_SECONDS], ids=["goes away", "is told so"])
async def test_who_gives_up_a_subscription_leaves_the_connection_as_it_was(
    fresh_bus_server: BusServer, patience_seconds: float
) -> None:
    async with connected(fresh_bus_server, SEEDER) as (bus,):
        with fresh_bus_server.paused(), pytest.raises((TimeoutError, Unavailable)):
            async with asyncio.timeout(patience_seconds), bus.listen(Beat.filter()):
                pass
        await bus.bucket(TENANTS).put("acme", b"1")
        entry = await bus.bucket(TENANTS).get("acme")
        assert entry is not None
        assert entry.value == b"1"


async def test_every_service_that_starts_meanwhile_is_ready_once_the_bus_answers(
    fresh_bus_server: BusServer, object_store: ObjectSettings, tmp_path: Path
) -> None:
    server, identity = fresh_bus_server, fresh_bus_server.identity
    parties = (SCHEDULER, CLUSTER_METRICS, CACHE, LOG_COLLECTOR, GATEWAY, SEEDER)
    async with (
        connected(server, *parties) as (scheduler, metrics, cache, logs, gateway, seeder),
        S3Objects.connect(object_store) as objects,
        Accounts.connect(server.url, identity) as accounts,
    ):
        readies = [asyncio.Event() for _ in range(5)]
        at_gateway = GatewaySettings(data_dir=tmp_path / "gateway", host="127.0.0.1", port=0)
        with capture_logs() as logged, server.paused():
            tasks = [
                asyncio.ensure_future(serving)
                for serving in (
                    serve_scheduler(SchedulerSettings(), scheduler, readies[0]),
                    serve_metrics(MetricsSettings(), metrics, readies[1]),
                    serve_cache(CacheSettings(), cache, objects, readies[2]),
                    serve_logs(LogSettings(), logs, objects, readies[3]),
                    serve_gateway(at_gateway, gateway, identity, readies[4]),
                    follow(accounts, seeder),
                )
            ]
            await until(
                lambda: (
                    {"the state", "beats", "svc.cache.source-upload", "KV_TENANTS", "KV_CLUSTERS"} <= waited_for(logged)
                    or any(task.done() for task in tasks)
                )
            )
        async with ended(tasks), asyncio.timeout(LIMIT_SECONDS):
            for task, ready in zip(tasks, readies, strict=False):
                reached = asyncio.ensure_future(ready.wait())
                await asyncio.wait([task, reached], return_when=asyncio.FIRST_COMPLETED)
                assert ready.is_set(), task
            assert not any(task.done() for task in tasks)


async def test_a_service_that_starts_before_the_bus_waits_for_it_and_its_pulse_goes_on(
    fresh_bus_server: BusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential, pulse = tmp_path / "cache.creds", tmp_path / "pulse"
    credential.write_text(fresh_bus_server.identity.credential(CACHE).to_file_text())
    monkeypatch.setenv("OVERSPILL_NATS_URL", fresh_bus_server.url)
    monkeypatch.setenv("OVERSPILL_NATS_CREDS_FILE", str(credential))
    monkeypatch.setenv("OVERSPILL_PULSE_FILE", str(pulse))
    fresh_bus_server.stop()
    async with AsyncExitStack() as stack:
        with capture_logs() as logged:
            reached = asyncio.ensure_future(stack.enter_async_context(service_bus("cache")))
            await until(lambda: "the bus" in waited_for(logged) or reached.done())
            assert not reached.done()
            assert pulse.exists()
            await asyncio.to_thread(fresh_bus_server.start)
            async with asyncio.timeout(LIMIT_SECONDS):
                assert (await reached).connected


async def test_an_agent_that_starts_while_the_bus_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = MemoryServer()
    hub, bus = MemoryBus(server), MemoryBus(server)
    bus.cut()
    settings = AgentSettings(data=tmp_path / "agent", cluster="c1", machine="m1", pool="p", spares=0, drain_seconds=0)
    async with hub.listen(Beat.filter()) as beats:
        with capture_logs() as logged:
            agent = asyncio.ensure_future(serve_agent(settings, bus, asyncio.Event()))
            await until(lambda: "desired state" in waited_for(logged) or agent.done())
        async with ended([agent]), asyncio.timeout(LIMIT_SECONDS):
            assert not agent.done(), agent
            bus.restore()
            assert Beat.parse((await anext(beats)).subject) == Beat("c1", "m1")
