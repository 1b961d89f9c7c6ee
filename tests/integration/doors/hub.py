"""Every service of the hub in one process, on a real bus and a real object store; and an edge whose attempts write
facts, logs and artifacts as a runner does.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services.cache.settings import Settings as CacheSettings
from services.cache.wiring import serve as serve_cache
from services.cluster_metrics.settings import Settings as MetricsSettings
from services.cluster_metrics.wiring import serve as serve_metrics
from services.gateway import wiring as gateway_wiring
from services.gateway.settings import Settings as GatewaySettings
from services.log_collector.settings import Settings as LogSettings
from services.log_collector.wiring import serve as serve_logs
from services.scheduler.wiring import serve as serve_scheduler
from shared.adapters.nats_bus import NatsBus
from shared.adapters.s3_objects import S3Objects
from shared.clock import Instant
from shared.facts import ArtifactStored, AttemptStarted, Fact, JobRecord, Order, StepEnded, StepStarted
from shared.facts.log import LogChunk
from shared.flow import CLUSTERS, DONE, JOBS, STREAMS, TENANTS, Ask, Done, Evt, Job, LogTo
from shared.ids import random_id
from shared.lifecycle import Reason
from shared.parties import (
    CACHE,
    CLUSTER_METRICS,
    GATEWAY,
    LOG_COLLECTOR,
    SCHEDULER,
    Party,
    attempt_party,
    machine_party,
)
from shared.principal import Role
from shared.requests import UrlsAsked, UrlsTold
from shared.settings import ObjectSettings
from shared.tenancy import ClusterRecord, TenantRecord, new_api_key
from shared.wire import decode, encode
from tests.conftest import BusServer
from tests.integration.gateway.conftest import eventually
from tests.integration.scheduler.world import FAST, FakeEdge, running

LIMIT_SECONDS = 40
SPY = Party(
    "spy",
    "hub",
    publishes=(">",),
    subscribes=(">",),
    reads=STREAMS,
    purges=STREAMS,
    buckets=(TENANTS, CLUSTERS),
    writes_buckets=(TENANTS, CLUSTERS),
    why="a test's own eyes and hands",
)
SPEC: dict[str, Any] = {
    "name": "hello",
    "steps": [{"name": "greet", "run": "echo hello"}],
    "artifacts": [{"name": "Out put", "paths": ["out"]}],
}
LOG = b"hello\n"


@dataclass
class ShiftedClock:
    """Real time, and as much later as the test says."""

    ahead_seconds: float = 0.0

    def now(self) -> Instant:
        return Instant(time.time() + self.ahead_seconds)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Hub:
    server: BusServer
    objects: S3Objects
    spy: NatsBus
    directory: Path
    stack: AsyncExitStack
    clock: ShiftedClock = field(default_factory=ShiftedClock)
    url: str = ""
    http: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    tokens: dict[str, str] = field(default_factory=dict)
    edge: FakeEdge | None = None
    tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    # ── services

    async def connect(self, party: Party, **account: str) -> NatsBus:
        credential = self.server.identity.credential(party, **account)
        return await self.stack.enter_async_context(self.server.connect(credential))

    async def start(self, name: str, make: Callable[[asyncio.Event], Any]) -> None:
        """A service that runs until `stop` of it, or the hub's end; its failure fails the test."""
        ready = asyncio.Event()
        task = self.tasks[name] = asyncio.create_task(make(ready), name=name)
        waiting = asyncio.create_task(ready.wait())
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            await task

    async def stop(self, name: str) -> None:
        task = self.tasks.pop(name)
        assert not task.done(), f"{name} ended by itself: {task}"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def start_gateway(self, data: str = "gateway", **settings: Any) -> None:
        sock = gateway_wiring.listening_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        bus, made = await self.connect(GATEWAY), GatewaySettings(data_dir=self.directory / data, **settings)
        identity, clock = self.server.identity, self.clock
        await self.start(
            "gateway", lambda ready: gateway_wiring.serve(made, bus, identity, ready, sock=sock, clock=clock)
        )
        self.http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.url, timeout=20))

    async def start_scheduler(self, **changes: Any) -> None:
        bus = await self.connect(SCHEDULER)
        settings = FAST.model_copy(update={"forget_every_seconds": 0.3, **changes})
        leading = asyncio.Event()
        await self.start("scheduler", lambda ready: serve_scheduler(settings, bus, ready, self.clock, leading))
        async with asyncio.timeout(LIMIT_SECONDS):
            await leading.wait()

    async def start_others(self) -> None:
        metrics, cache, logs = [await self.connect(party) for party in (CLUSTER_METRICS, CACHE, LOG_COLLECTOR)]
        await self.start("metrics", lambda ready: serve_metrics(MetricsSettings(), metrics, ready))
        await self.start("cache", lambda ready: serve_cache(CacheSettings(), cache, self.objects, ready, self.clock))
        quick = LogSettings(instance="one", part_age_seconds=0.1, checkpoint_seconds=0.1, member_ttl_seconds=2.0)
        await self.start("logs", lambda ready: serve_logs(quick, logs, self.objects, ready))

    def check_alive(self) -> None:
        for name, task in self.tasks.items():
            assert not task.done(), f"{name} ended by itself: {task}"

    # ── people and machines

    async def new_tenant(self, name: str | None = None, role: Role = Role.OPERATOR, **fields: Any) -> str:
        """Known to the gateway when this returns, with a key in `tokens`."""
        tenant = await self.server.tenant(name)
        token, key = new_api_key("ci", role, 0)
        self.tokens[tenant] = token
        await self.spy.bucket(TENANTS).put(tenant, encode(TenantRecord(tenant=tenant, api_keys=[key], **fields)))
        if self.url:
            await eventually(lambda: self.ask("GET", "/v1/me", tenant), lambda answer: answer.status_code != 401)
        return tenant

    async def ask(self, method: str, path: str, tenant: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[tenant]}", **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)

    async def submit(self, tenant: str, spec: dict[str, Any] | None = None, key: str | None = None) -> str:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.ask("POST", "/v1/jobs", tenant, json=spec or SPEC, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def ended(self, tenant: str, job: str) -> dict[str, Any]:
        """Once it has ended, also in DONE."""
        answer = await eventually(
            lambda: self.ask("GET", f"/v1/jobs/{job}", tenant),
            lambda answer: answer.status_code == 200 and answer.json()["ended"] is not None,
            LIMIT_SECONDS,
        )
        await eventually(lambda: self.spy.last(DONE, Done(tenant, job)), lambda found: found is not None, LIMIT_SECONDS)
        return dict(answer.json())

    async def run_job(self, tenant: str, spec: dict[str, Any] | None = None, key: str | None = None) -> str:
        job = await self.submit(tenant, spec, key)
        view = await self.ended(tenant, job)
        assert view["state"] == "succeeded", view
        return job

    async def _names_artifacts(self, tenant: str, job: str) -> bool:
        found = await self.spy.last(JOBS, Job(tenant, job))
        return found is not None and decode(JobRecord, found.data).artifact_count > 0

    def run_attempt(self, order: Order) -> None:
        self.stack.push_async_callback(self._settled, asyncio.create_task(self._attempt(order)))

    async def _settled(self, task: "asyncio.Task[None]") -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _attempt(self, order: Order) -> None:
        tenant, job, epoch = order.tenant, order.job, order.epoch
        head = {"tenant": tenant, "job": job, "epoch": epoch, "at_unix_ns": time.time_ns()}
        credential = self.server.identity.credential(attempt_party(tenant, job, epoch), tenant=tenant)
        async with self.server.connect(credential) as bus:

            async def tell(fact: Fact) -> None:
                await bus.publish(Evt(tenant, job, epoch, fact.token()), encode(fact))

            await tell(AttemptStarted(**head, machine="m1"))
            await tell(StepStarted(**head, step=1, name="greet"))
            chunk = LogChunk(0, LOG, ((0, 1),), len(LOG), hashlib.sha256(LOG).hexdigest())
            await bus.publish(LogTo(tenant, job, epoch, 1), chunk.data, headers=chunk.headers())
            ended = StepEnded(**head, step=1, name="greet", state="exited", verdict="ok", exit_code=0, tries=1)
            await tell(ended)
            if await self._names_artifacts(tenant, job):
                asked = encode(UrlsAsked(artifacts=["Out put"]))
                told = decode(UrlsTold, (await bus.request(Ask(tenant, job, epoch, "urls"), asked)).data)
                put = told.artifacts["Out put"]
                async with httpx.AsyncClient() as http:
                    (await http.put(put.url, content=b"tar")).raise_for_status()
                stored = ArtifactStored(**head, name="Out put", key=put.key, size_bytes=3, sha256="0" * 64, files=1)
                await tell(stored)
        assert self.edge is not None
        await self.edge.end(order, "succeeded", Reason.ALL_STEPS_OK, 0)


@asynccontextmanager
async def hub_on(server: BusServer, store: ObjectSettings, directory: Path, **gateway: Any) -> AsyncIterator[Hub]:
    """All services and one machine. Ends with a look whether every service is still alive."""
    bucket = store.model_copy(update={"bucket": f"doors-{random_id()[:12]}"})
    async with AsyncExitStack() as stack:
        objects = await stack.enter_async_context(S3Objects.connect(bucket))
        await objects.ensure_bucket()
        spy = await stack.enter_async_context(server.connect(server.identity.credential(SPY)))
        hub = Hub(server, objects, spy, directory, stack)
        await spy.bucket(CLUSTERS).put("c1", encode(ClusterRecord(cluster="c1", bus_urls=[server.url])))
        machine = await hub.connect(machine_party("c1", "m1"), cluster="c1")

        def script(order: Order) -> None:
            hub.run_attempt(order)

        hub.edge = FakeEdge(machine, "c1", "m1", script, cpus=64)
        try:
            await hub.start_others()
            await hub.start_scheduler()
            await hub.start_gateway(**gateway)
            async with running(hub.edge.live()):
                yield hub
            hub.check_alive()
        finally:
            for task in hub.tasks.values():
                task.cancel()
            await asyncio.gather(*hub.tasks.values(), return_exceptions=True)
