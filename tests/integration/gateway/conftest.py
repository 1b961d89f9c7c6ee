"""A whole gateway on a real bus, its HTTP on a real port; the other services are tiny responders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import wiring
from services.gateway.settings import Settings
from shared.adapters.nats_bus import NatsBus
from shared.bus import Headers, Message, Responder
from shared.facts import Fact, JobRecord
from shared.flow import CLUSTERS, JOBS, TENANTS, Evt, Job
from shared.ids import random_id
from shared.parties import GATEWAY, LOG_COLLECTOR, SCHEDULER, attempt_party
from shared.principal import Role
from shared.requests import ANSWER, LogAsked, LogTold
from shared.tenancy import ApiKey, ClusterRecord, TenantLimits, TenantRecord, new_api_key
from shared.wire import decode, encode

READY_SECONDS = 20
SPEC = {"name": "hello", "steps": [{"name": "greet", "run": "echo hello"}, {"run": "true"}]}


@dataclass
class Gateway:
    """What a test needs of it. `tenant` is the test's own."""

    bus: NatsBus
    scheduler: NatsBus
    tenant: str
    token: str
    url: str
    http: httpx.AsyncClient
    bus_server: Any
    data_dir: Path
    serving: asyncio.Task[None]

    def stop(self) -> None:
        self.serving.cancel()

    def auth(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self.token}"}

    async def put_tenant(self, tenant: str, *keys: ApiKey, **fields: Any) -> TenantRecord:
        record = TenantRecord(tenant=tenant, namespaces=["builds"], api_keys=list(keys), **fields)
        await self.bus.bucket(TENANTS).put(tenant, encode(record))
        return record

    async def new_tenant(self, role: Role = Role.SUBMITTER, limits: TenantLimits | None = None) -> tuple[str, str]:
        """(tenant, token), known to the gateway when this returns."""
        tenant = await self.bus_server.tenant()
        token, key = new_api_key("test", role, 0)
        await self.put_tenant(tenant, key, limits=limits or TenantLimits())
        await eventually(lambda: self.get("/v1/me", token), lambda answer: answer.status_code != 401)
        return tenant, token

    async def get(self, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {**self.auth(token), **more.pop("headers", {})}
        return await self.http.get(path, headers=headers, **more)

    async def post(self, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {**self.auth(token), **more.pop("headers", {})}
        return await self.http.post(path, headers=headers, **more)

    async def submit(self, spec: dict[str, Any] | None = None, **more: Any) -> str:
        answer = await self.post("/v1/jobs", json=spec or SPEC, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def record(self, job: str) -> tuple[JobRecord, int]:
        found = await self.scheduler.last(JOBS, Job(self.tenant, job))
        assert found is not None
        return decode(JobRecord, found.data), found.seq

    async def move(self, job: str, **changes: Any) -> JobRecord:
        """As the scheduler would."""
        record, seq = await self.record(job)
        moved = JobRecord.model_validate({**record.model_dump(), "write_id": random_id(), **changes})
        await self.scheduler.publish(Job(self.tenant, job), encode(moved), expect_seq=seq)
        return moved

    async def tell(self, job: str, epoch: int, fact: Fact) -> None:
        """As the runner would."""
        party = attempt_party(self.tenant, job, epoch)
        credential = self.bus_server.identity.credential(party, tenant=self.tenant)
        async with self.bus_server.connect(credential) as runner:
            await runner.publish(Evt(self.tenant, job, epoch, fact.token()), encode(fact))


async def eventually(ask: Callable[[], Any], holds: Callable[[Any], bool], seconds: float = 10) -> Any:
    """Ask again until it holds: for what another process' watch brings. Bounded."""
    async with asyncio.timeout(seconds):
        while not holds(answer := await ask()):
            await asyncio.sleep(0.01)
        return answer


@pytest.fixture
async def gateway(bus_server: Any, hub_bus: Any, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(bus_server, hub_bus, tmp_path) as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def running(bus_server: Any, hub_bus: Any, data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    bus, scheduler = await hub_bus(GATEWAY), await hub_bus(SCHEDULER)
    tenant = await bus_server.tenant()
    token, key = new_api_key("ci-bot", Role.SUBMITTER, 0)
    await bus.bucket(CLUSTERS).put("c1", encode(ClusterRecord(cluster="c1", bus_urls=[bus_server.url])))
    sock = wiring.listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    ready = asyncio.Event()
    made = Settings(data_dir=data_dir / "gateway", **settings)
    serving = asyncio.create_task(wiring.serve(made, bus, bus_server.identity, ready, sock=sock))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            gateway = Gateway(bus, scheduler, tenant, token, url, http, bus_server, data_dir, serving)
            await gateway.put_tenant(tenant, key)
            async with asyncio.timeout(READY_SECONDS):
                waiting = asyncio.create_task(ready.wait())
                await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    waiting.cancel()
                    await serving
            await eventually(lambda: gateway.get("/v1/me"), lambda answer: answer.status_code == 200)
            yield gateway
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@dataclass
class Logs:
    """A log-collector of a test: whole logs in memory."""

    logs: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    times: dict[tuple[str, int, int], list[tuple[int, int]]] = field(default_factory=dict)
    complete: set[tuple[str, int, int]] = field(default_factory=set)
    asked: int = 0
    answer_with: Responder | None = None
    """In its place."""

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        self.asked += 1
        if self.answer_with is not None:
            return await self.answer_with(message)
        asked = decode(LogAsked, message.data)
        key = (asked.job, asked.epoch, asked.step)
        log = self.logs.get(key, b"")
        offset = asked.offset
        if asked.since_unix_ms is not None:
            later = [at for at, ms in self.times.get(key, []) if ms >= asked.since_unix_ms]
            offset = max(offset, later[0] if later else len(log))
        data = log[offset : offset + asked.limit_bytes]
        told = LogTold(offset=offset, end=len(log), complete=key in self.complete, times=self.times.get(key, []))
        return data, {ANSWER: encode(told).decode()}


@pytest.fixture
async def logs(hub_bus: Any) -> AsyncIterator[Logs]:
    made = Logs()
    collector = await hub_bus(LOG_COLLECTOR)
    async with collector.serve("svc.log-collector.read", made.answer):
        yield made
