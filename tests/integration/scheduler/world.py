"""A scheduler's world on a real bus: a gateway's hand that writes jobs, and an edge that does what the test says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.cluster_metrics.settings import Settings as MetricsSettings
from services.cluster_metrics.wiring import serve as serve_metrics
from services.scheduler.settings import Settings
from services.scheduler.wiring import serve
from shared.adapters.nats_bus import NatsBus
from shared.errors import OverspillError, WrongSequence
from shared.facts import AttemptAccepted, AttemptEnded, CancelRequested, Desired, JobRecord, MachineBeat, Order
from shared.facts.attempt import Outcome
from shared.flow import DONE, JOBS, Beat, DesiredAt, Done, Edge, Evt, Job, Spec, Svc
from shared.ids import random_id
from shared.lifecycle import JobState, Reason
from shared.needs import GIB, Capacity, Needs
from shared.parties import CLUSTER_METRICS, GATEWAY, SCHEDULER, machine_party
from shared.requests import OrdersAsked, OrdersTold, WhyAsked, WhyTold
from shared.wire import decode, encode
from tests.conftest import BusServer

LIMIT_SECONDS = 30

FAST = Settings(
    accept_seconds=1.0,
    retry_seconds=0.05,
    fence_seconds=0.2,
    fence_margin_seconds=0.1,
    kill_grace_seconds=0.2,
    confirm_seconds=0.5,
    explain_after_seconds=0.1,
    keep_seconds=3600,
)


@dataclass
class FakeEdge:
    """One machine whose attempts end as `script` says; `script` returning None leaves an attempt running."""

    bus: NatsBus
    cluster: str
    machine: str
    script: Callable[[Order], tuple[Outcome, Reason, int | None] | None]
    cpus: int = 4
    accepts: bool = True
    session: str = field(default_factory=random_id)
    running: dict[tuple[str, str, int], Order] = field(default_factory=dict)
    seen: list[Order] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def beat(self, *, leaving: bool = False) -> None:
        told = MachineBeat(
            cluster=self.cluster,
            machine=self.machine,
            pool="default",
            session=self.session,
            version="0",
            protocol=1,
            isolation="process",
            labels=["linux"],
            arch="amd64",
            allocatable=Capacity(cpu_millis=self.cpus * 1000, memory_bytes=16 * GIB, disk_bytes=100 * GIB),
            attempts=[{"tenant": t, "job": j, "epoch": e} for t, j, e in self.running],
            leaving=leaving,
            beat_seconds=0.2,
        )
        await self.bus.notify(Beat(self.cluster, self.machine), encode(told))

    async def live(self) -> None:
        """Beats, hears desired state, asks for the truth now and then."""
        async with (
            self.bus.listen(DesiredAt.filter(cluster=self.cluster, target=self.machine)) as desired,
            asyncio.TaskGroup() as tasks,
        ):

            async def hear() -> None:
                async for message in desired:
                    with contextlib.suppress(OverspillError):
                        await self.take(decode(Order, message.data))

            tasks.create_task(hear())
            while True:
                with contextlib.suppress(OverspillError):
                    await self.beat()
                    for order in await self.ask():
                        await self.take(order)
                await asyncio.sleep(0.2)

    async def ask(self) -> list[Order]:
        answer = await self.bus.request(
            Edge(self.cluster, self.machine, "orders"), encode(OrdersAsked()), timeout_seconds=1
        )
        return decode(OrdersTold, answer.data).orders

    async def take(self, order: Order) -> None:
        key = (order.tenant, order.job, order.epoch)
        self.seen.append(order)
        self.changed.set()
        if order.desired is Desired.RUN and self.accepts and key not in self.running:
            fact = AttemptAccepted(
                tenant=order.tenant,
                job=order.job,
                epoch=order.epoch,
                at_unix_ns=time.time_ns(),
                cluster=self.cluster,
                machine=self.machine,
            )
            try:
                await self.bus.publish(
                    Evt(order.tenant, order.job, order.epoch, fact.token()), encode(fact), expect_seq=0
                )
            except WrongSequence:
                return
            self.running[key] = order
            if (end := self.script(order)) is not None:
                await self.end(order, *end)
        elif order.desired in (Desired.CANCEL, Desired.TIMEOUT) and key in self.running:
            outcome: Outcome = "cancelled" if order.desired is Desired.CANCEL else "timed_out"
            reason = Reason.CANCELLED if order.desired is Desired.CANCEL else Reason.TIMEOUT
            await self.end(order, outcome, reason, None)

    async def end(self, order: Order, outcome: Outcome, reason: Reason, exit_code: int | None) -> None:
        self.running.pop((order.tenant, order.job, order.epoch), None)
        fact = AttemptEnded(
            tenant=order.tenant,
            job=order.job,
            epoch=order.epoch,
            at_unix_ns=time.time_ns(),
            outcome=outcome,
            reason=reason,
            exit_code=exit_code,
        )
        with contextlib.suppress(WrongSequence):
            await self.bus.publish(Evt(order.tenant, order.job, order.epoch, fact.token()), encode(fact), expect_seq=0)


def good(_: Order) -> tuple[Outcome, Reason, int | None]:
    return "succeeded", Reason.ALL_STEPS_OK, 0


def for_ever(_: Order) -> None:
    return None


class World:
    """Everything around the scheduler under test, in one tenant and one cluster."""

    def __init__(self, server: BusServer, stack: AsyncExitStack, gateway: NatsBus, tenant: str, cluster: str) -> None:
        self.server, self.stack, self.gateway = server, stack, gateway
        self.tenant, self.cluster = tenant, cluster

    async def submit(self, **about: object) -> str:
        job = str(about.get("job") or random_id())
        values: dict[str, object] = {
            "tenant": self.tenant,
            "job": job,
            "name": "build",
            "state": JobState.QUEUED,
            "created_unix_ns": time.time_ns(),
            "content_hash": "0" * 64,
            "needs": Needs(cpu_millis=1000, memory_bytes=GIB, disk_bytes=GIB),
            "timeout_seconds": 600.0,
            "step_count": 1,
            "submitted_by": "test",
            "write_id": random_id(),
            **about,
        }
        await self.gateway.publish(Spec(self.tenant, job), b"{}", expect_seq=0)
        await self.gateway.publish(Job(self.tenant, job), encode(JobRecord(**values)), expect_seq=0)
        return job

    async def cancel(self, job: str) -> None:
        fact = CancelRequested(tenant=self.tenant, job=job, by="test", at_unix_ns=time.time_ns())
        await self.gateway.publish(Evt(self.tenant, job, 0, fact.token()), encode(fact), expect_seq=0)

    async def until(self, job: str, wanted: Callable[[JobRecord], bool]) -> JobRecord:
        """The first record of the job for which `wanted` holds."""
        async with asyncio.timeout(LIMIT_SECONDS):
            async for message in self.gateway.tail(JOBS, str(Job(self.tenant, job)), from_seq=1):
                record = decode(JobRecord, message.data)
                if wanted(record):
                    return record
        raise AssertionError("the tail ended")

    async def ended(self, job: str) -> JobRecord:
        return await self.until(job, lambda record: record.ended)

    async def done(self, job: str) -> JobRecord:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for message in self.gateway.tail(DONE, str(Done(self.tenant, job)), from_seq=1):
                return decode(JobRecord, message.data)
        raise AssertionError("the tail ended")

    async def why(self, job: str) -> WhyTold:
        answer = await self.gateway.request(Svc("scheduler", "why"), encode(WhyAsked(tenant=self.tenant, job=job)))
        return decode(WhyTold, answer.data)

    async def edge(self, script: Callable[[Order], object] = good, machine: str = "m1", **about: object) -> FakeEdge:
        """A machine that lives as long as the world, or until `stop` of it."""
        credential = self.server.identity.credential(machine_party(self.cluster, machine), cluster=self.cluster)
        bus = await self.stack.enter_async_context(self.server.connect(credential))
        return FakeEdge(bus, self.cluster, machine, script, **about)  # type: ignore[arg-type]

    @asynccontextmanager
    async def alive(self, edge: FakeEdge) -> AsyncIterator[FakeEdge]:
        async with running(edge.live()):
            yield edge

    @asynccontextmanager
    async def scheduler(self, settings: Settings = FAST) -> AsyncIterator[asyncio.Event]:
        """A scheduler on a connection of its own; yields the event that is set while it leads."""
        ready, leading = asyncio.Event(), asyncio.Event()
        async with (
            self.server.connect(self.server.identity.credential(SCHEDULER)) as bus,
            running(serve(settings, bus, ready, leading=leading)),
        ):
            async with asyncio.timeout(LIMIT_SECONDS):
                await ready.wait()
            yield leading


@asynccontextmanager
async def running(what: object) -> AsyncIterator[None]:
    """Run it beside the block; its failure fails the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(what)  # type: ignore[arg-type]
        yield
        task.cancel()


@asynccontextmanager
async def world(server: BusServer) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(server.connect(server.identity.credential(GATEWAY)))
        metrics = await stack.enter_async_context(server.connect(server.identity.credential(CLUSTER_METRICS)))
        ready = asyncio.Event()
        await stack.enter_async_context(running(serve_metrics(MetricsSettings(), metrics, ready)))
        async with asyncio.timeout(LIMIT_SECONDS):
            await ready.wait()
        yield World(server, stack, gateway, "t1", "c1")
