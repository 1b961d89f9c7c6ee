"""The hub as an edge meets it: orders, grants, the stream of facts, logs that become durable. On a real bus with real
accounts; only the services behind the subjects are a test's.
"""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from services.gateway.grants import check_claim
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.bus import Headers, Message
from shared.errors import Rejected, Unavailable, WrongSequence
from shared.facts import AttemptAccepted, AttemptEnded, Desired, Order
from shared.facts.log import LogChunk
from shared.flow import EVT, LOG, ORDERS, STREAMS, Ask, Edge, Evt, OrderTo
from shared.ids import random_id
from shared.needs import Needs
from shared.parties import Party, attempt_party, machine_party
from shared.requests import (
    DesiredTold,
    DurableAsked,
    DurableTold,
    Grant,
    GrantAsked,
    OrdersAsked,
    OrdersTold,
    PodGrant,
    Presigned,
    UrlsAsked,
    UrlsTold,
)
from shared.spec import JobSpec
from shared.wire import decode, encode

CLUSTER, TENANT = "c1", "t1"
PATIENCE_SECONDS = 60.0
ORDERS_PAGE = 500
HUB = Party("test-hub", "hub", publishes=(">",), subscribes=(">",), reads=STREAMS)
ROOT = Path(__file__).parents[3]


@dataclass
class Hub:
    bus: NatsBus
    identity: Identity
    url: str
    directory: Path
    specs: dict[str, JobSpec] = field(default_factory=dict)
    grants_open: asyncio.Event = field(default_factory=asyncio.Event)
    durable_open: bool = True
    urls: Callable[[Ask, UrlsAsked], Awaitable[UrlsTold]] | None = None
    durable_asks: int = 0
    desired_open: bool = True
    routes: dict[str, str] = field(default_factory=dict)
    """By machine: the address under which its attempts reach the bus, where that is another."""
    pod: PodGrant | None = None
    """Where attempts run as pods."""
    pods: dict[str, PodGrant] = field(default_factory=dict)
    """By tenant, where that of one is another."""

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, bus: NatsBus, identity: Identity, url: str, directory: Path, *, orders: bool = True
    ) -> AsyncIterator[Self]:
        """Without `orders` a real scheduler answers for them."""
        hub = cls(bus, identity, url, directory)
        hub.grants_open.set()
        async with AsyncExitStack() as stack:
            if orders:
                await stack.enter_async_context(bus.serve(Edge.filter(op="orders"), hub._orders))
            for subject, responder in (
                (Edge.filter(op="grant"), hub._grant),
                (Ask.filter(op="durable"), hub._durable),
                (Ask.filter(op="urls"), hub._urls),
                (Ask.filter(op="desired"), hub._desired),
            ):
                await stack.enter_async_context(bus.serve(subject, responder))
            yield hub

    # What it answers

    async def _orders(self, message: Message) -> tuple[bytes, Headers]:
        at = Edge.parse(message.subject)
        after = decode(OrdersAsked, message.data).after or ""
        stored = await self.bus.last_each(ORDERS, OrderTo.filter(cluster=at.cluster, target=at.machine))
        orders = {f"{order.tenant}.{order.job}": order for order in (decode(Order, each.data) for each in stored)}
        rest = [name for name in sorted(orders) if name > after]
        page = rest[:ORDERS_PAGE]
        return encode(OrdersTold(orders=[orders[name] for name in page], complete=page == rest)), {}

    async def _grant(self, message: Message) -> tuple[bytes, Headers]:
        await self.grants_open.wait()
        asked = decode(GrantAsked, message.data)
        if asked.job not in self.specs:
            raise Rejected(why="not placed here")
        if self.pod is not None:
            await self._check_claim(asked)
        credential = self.identity.credential(attempt_party(asked.tenant, asked.job, asked.epoch), tenant=asked.tenant)
        grant = Grant(
            tenant=asked.tenant,
            job=asked.job,
            epoch=asked.epoch,
            spec=self.specs[asked.job],
            bus_urls=[self.routes.get(Edge.parse(message.subject).machine, self.url)],
            bus_jwt=credential.jwt,
            bus_seed=credential.seed,
            created_unix_ns=time.time_ns(),
            pod=self.pods.get(asked.tenant, self.pod),
        )
        return encode(grant), {}

    async def _check_claim(self, asked: GrantAsked) -> None:
        about = (asked.tenant, asked.job, asked.epoch)
        accepted, ended = await asyncio.gather(
            self.bus.last(EVT, Evt(*about, AttemptAccepted.token())),
            self.bus.last(EVT, Evt(*about, AttemptEnded.token())),
        )
        claim = decode(AttemptAccepted, accepted.data) if accepted else None
        check_claim(claim, asked, ended=ended is not None)

    async def _durable(self, message: Message) -> tuple[bytes, Headers]:
        asked, about = decode(DurableAsked, message.data), Ask.parse(message.subject)
        self.durable_asks += 1
        durable, complete = {}, []
        for step in asked.steps:
            if self.durable_open:
                log = await self.log(about.job, step, about.epoch)
                durable[step] = len(log.data)
                if log.complete:
                    complete.append(step)
        return encode(DurableTold(durable_bytes=durable, complete=complete)), {}

    async def _desired(self, message: Message) -> tuple[bytes, Headers]:
        if not self.desired_open:
            raise Unavailable(what="the scheduler", why="this hub says nothing")
        about = Ask.parse(message.subject)
        stored = await self.bus.last_each(ORDERS, OrderTo.filter(tenant=about.tenant, job=about.job))
        orders = [decode(Order, each.data) for each in stored]
        return encode(DesiredTold(order=max(orders, key=lambda order: order.epoch, default=None))), {}

    async def _urls(self, message: Message) -> tuple[bytes, Headers]:
        if self.urls is None:
            raise Rejected(why="this hub stores nothing")
        return encode(await self.urls(Ask.parse(message.subject), decode(UrlsAsked, message.data))), {}

    # What it orders

    async def order(
        self, spec: dict[str, Any] | JobSpec, machine: str, job: str | None = None, **changes: Any
    ) -> Order:
        job = job or random_id()
        self.specs[job] = spec if isinstance(spec, JobSpec) else JobSpec.model_validate(spec)
        order = Order.model_validate(
            {
                "tenant": TENANT,
                "job": job,
                "epoch": 1,
                "cluster": CLUSTER,
                "target": machine,
                "desired": Desired.RUN,
                "needs": Needs(cpu_millis=100, memory_bytes=2**28, disk_bytes=2**28),
                "on_lost": "rerun",
                "fence_seconds": 60,
                "timeout_seconds": 600,
                "term": 1,
            }
            | changes,
        )
        await self.put(order)
        return order

    async def put(self, order: Order) -> None:
        await self.bus.publish(OrderTo(order.cluster, order.target, order.tenant, order.job), encode(order))

    async def change(self, order: Order, **changes: Any) -> Order:
        changed = order.model_copy(update=changes)
        await self.put(changed)
        return changed

    async def withdraw(self, order: Order) -> None:
        await self.bus.purge(ORDERS, str(OrderTo(order.cluster, order.target, order.tenant, order.job)))

    # What it hears

    async def facts(self, job: str) -> list[tuple[str, dict[str, Any]]]:
        import orjson

        messages = [m async for m in self.bus.read(EVT, Evt.filter(tenant=TENANT, job=job), from_seq=1)]
        return [(message.subject.rsplit(".", 1)[1], orjson.loads(message.data)) for message in messages]

    async def kinds(self, job: str) -> list[str]:
        return [kind for kind, _ in await self.facts(job)]

    async def until(self, job: str, kind: str, step: int | None = None, *, epoch: object = "*") -> dict[str, Any]:
        """The first fact of this kind."""
        import orjson

        async with asyncio.timeout(PATIENCE_SECONDS):
            async for message in self.bus.tail(
                EVT, Evt.filter(tenant=TENANT, job=job, epoch=epoch, kind=kind), from_seq=1
            ):
                fact: dict[str, Any] = orjson.loads(message.data)
                if step is None or fact.get("step") == step:
                    return fact
        raise AssertionError

    async def ended(self, order: Order) -> AttemptEnded:
        return AttemptEnded.model_validate(await self.until(order.job, "attempt-ended"))

    async def log(self, job: str, step: int, epoch: int = 1) -> "Log":
        log = Log()
        subject = f"logs.*.{TENANT}.{job}.{epoch}.{step}"
        async for message in self.bus.read(LOG, subject, from_seq=1):
            log.take(LogChunk.read(dict(message.headers), message.data))
        return log

    async def claimed_by_another(self, order: Order) -> bool:
        try:
            subject = Evt(order.tenant, order.job, order.epoch, "attempt-accepted")
            await self.bus.publish(subject, b"{}", expect_seq=0)
        except WrongSequence:
            return False
        return True


@dataclass
class Log:
    """Chunks put together as the log-collector does: by offset, duplicates dropped."""

    data: bytes = b""
    complete: bool = False
    chunks: int = 0
    times: list[tuple[int, int]] = field(default_factory=list)

    def take(self, chunk: LogChunk) -> None:
        assert chunk.offset <= len(self.data), "a hole in the log"
        self.chunks += 1
        self.data += chunk.data[len(self.data) - chunk.offset :]
        self.times += chunk.times
        if chunk.last:
            assert chunk.total == len(self.data)
            assert chunk.sha256 == hashlib.sha256(self.data).hexdigest()
            self.complete = True


@dataclass
class AgentProcess:
    """`python -m runner.agent` on a data directory of its own."""

    hub: Hub
    data: Path
    machine: str = "m1"
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> Self:
        self.data.mkdir(exist_ok=True, parents=True)
        creds = self.data / "agent.creds"
        credential = self.hub.identity.credential(machine_party(CLUSTER, self.machine), cluster=CLUSTER)
        creds.write_text(credential.to_file_text())
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OVERSPILL_NATS_URL": self.hub.url,
            "OVERSPILL_NATS_CREDS_FILE": str(creds),
            "OVERSPILL_AGENT_DATA": str(self.data),
            "OVERSPILL_AGENT_CLUSTER": CLUSTER,
            "OVERSPILL_AGENT_MACHINE": self.machine,
            "OVERSPILL_AGENT_CPU_MILLIS": "4000",
            "OVERSPILL_AGENT_MEMORY_BYTES": str(4 * 2**30),
            "OVERSPILL_AGENT_DISK_BYTES": str(2**40),
            "OVERSPILL_AGENT_ORDERS_SECONDS": "1",
            "OVERSPILL_AGENT_GRACE_SECONDS": "2",
            **self.environment,
        }
        with (self.data / "agent.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner.agent"], env=environment, cwd=ROOT, stdout=errors, stderr=errors
            )
        return self

    def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_SECONDS)
        self.process = None
        return code

    def attempt(self, order: Order) -> Path:
        return self.data / "attempts" / f"{order.job}-{order.epoch}"

    def complaints(self) -> str:
        return "".join(
            (self.data / name).read_text() for name in ("agent.err", "step-ctl.log") if (self.data / name).exists()
        )


def mine(data: Path) -> list[int]:
    """Processes whose command line or environment names this data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if os.fsencode(data) in words:
                found.append(int(entry.name))
    return found


def end_processes(agent: AgentProcess) -> None:
    """Nothing of an agent is left, nor of what it started."""
    if agent.process is not None:
        agent.signal(signal.SIGKILL)
    for pid in mine(agent.data):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


__all__ = ["AgentProcess", "Hub", "Log", "Presigned", "end_processes", "mine"]
