"""The real services on a bus in memory, in virtual time."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from services.cluster_metrics.settings import Settings as MetricsSettings
from services.cluster_metrics.wiring import serve as serve_metrics
from services.gateway.admission import Admission, QueueDepth
from services.gateway.cancelling import Cancelling
from services.gateway.projection.feed import Feed
from services.gateway.projection.followers import Followers
from services.gateway.projection.schema import open_for_reading
from services.gateway.projection.writing import Writer
from services.gateway.room import Room
from services.gateway.submissions import Submissions
from services.gateway.tenants import Directory
from services.scheduler.settings import Settings
from services.scheduler.wiring import serve as serve_scheduler
from shared import flow
from shared.bus import CE_TYPE
from shared.clock import Instant
from shared.errors import Unavailable
from shared.facts import CancelRequested, JobRecord, JobSubmitted
from shared.ids import job_id_from_event
from shared.tenancy import ClusterRecord, TenantLimits, TenantRecord
from shared.wire import decode, encode
from tests.memory_bus import MemoryBus, MemoryServer
from tests.property.edge import CLUSTER, Machine
from tests.property.loop import VirtualLoop

T = TypeVar("T")
START = 1_700_000_000.0
TENANT = "acme"
SETTINGS = Settings(lease_seconds=8, explain_after_seconds=5, fence_seconds=20, fence_margin_seconds=5)
METRICS = MetricsSettings(tick_seconds=1.0)
SERVICES = ("gateway", "scheduler-a", "scheduler-b", "cluster-metrics")
MACHINES = ("m1", "m2")
SETTLED_SECONDS = 1200.0


class LoopClock:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> Instant:
        return Instant(START + self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()


@dataclass(slots=True)
class Process:
    bus: MemoryBus
    task: "asyncio.Task[None]"


class Platform:
    """`end_state` of it after the same submissions and cancels must always be the same."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        self.server = MemoryServer(self.clock.now)
        self.kinds: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.run(self._configure())
        for name in (*SERVICES, *MACHINES):
            self.start(name)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _configure(self) -> None:
        bus = MemoryBus(self.server)
        tenant = TenantRecord(tenant=TENANT, limits=TenantLimits(max_active_jobs=4))
        await bus.bucket(flow.TENANTS).put(TENANT, encode(tenant))
        await bus.bucket(flow.CLUSTERS).put(CLUSTER, encode(ClusterRecord(cluster=CLUSTER, bus_urls=["nats://bus"])))

    # Processes

    def start(self, name: str) -> None:
        async def begin() -> None:
            bus = MemoryBus(self.server)
            self.processes[name] = Process(bus, asyncio.create_task(self._supervise(name, bus)))
            await asyncio.sleep(0.01)

        self.run(begin())

    async def _supervise(self, name: str, bus: MemoryBus) -> None:
        """A service that ends because the bus is out is started again, as every supervisor does."""
        await asyncio.sleep(0)
        while name in self.processes and self.processes[name].bus is bus:
            try:
                await self._serve(name, bus)
            except* Unavailable:
                await asyncio.sleep(1.0)

    def _serve(self, name: str, bus: MemoryBus) -> Coroutine[Any, Any, None]:
        ready = asyncio.Event()
        match name:
            case "gateway":
                return self._gateway(bus)
            case "cluster-metrics":
                return serve_metrics(METRICS, bus, ready, self.clock)
            case "scheduler-a" | "scheduler-b":
                return serve_scheduler(SETTINGS, bus, ready, self.clock)
            case _:
                return Machine(bus, name, self.kinds).serve()

    async def _gateway(self, bus: MemoryBus) -> None:
        """As services/gateway/wiring.py wires it, without the HTTP door."""
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(Writer(self._projection))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            directory = Directory(bus)
            admission = Admission(bus, directory, QueueDepth(_none_queued, self.clock), Room(bus, None, 0), self.clock)
            submissions = Submissions(bus, admission, Cancelling(bus, self.clock), directory, self.clock, 8, _refused)
            tasks.create_task(directory.tenants.run())
            tasks.create_task(directory.clusters.run())
            tasks.create_task(Feed(bus, writer, Followers(10, 10, 10), directory, self.clock).run())
            await directory.tenants.loaded.wait()
            tasks.create_task(submissions.run())

    @property
    def _projection(self) -> Path:
        return self._directory / "projection.db"

    def kill(self, name: str) -> None:
        """Nothing it does afterwards reaches anybody."""
        process = self.processes.pop(name)
        process.bus.cut()
        process.task.cancel()
        self.run(_ended(process.task))

    def pass_time(self, seconds: float) -> None:
        """Raises what a process ended of."""
        self.run(asyncio.sleep(seconds))
        for process in self.processes.values():
            if process.task.done():
                process.task.result()

    # What people do

    def submit(self, number: int, kind: str, on_lost: str) -> str:
        job = job_id_from_event(TENANT, "/tests", str(number))
        self.kinds[job] = kind
        timeout = "20s" if kind == "slow" else "20h"
        spec = {"name": kind, "timeout": timeout, "on-lost": on_lost, "steps": [{"run": "true"}]}
        headers = {CE_TYPE: JobSubmitted.event_type(), "ce-source": "/tests", "ce-id": str(number)}
        self._tell(headers, {"spec": spec})
        return job

    def cancel(self, job: str) -> None:
        headers = {CE_TYPE: CancelRequested.event_type(), "ce-source": "/tests", "ce-id": f"cancel-{job}"}
        self._tell(headers, {"job": job})

    def _tell(self, headers: dict[str, str], body: dict[str, Any]) -> None:
        self.server.store(str(flow.Submit(TENANT)), orjson.dumps(body), headers, None, None)

    # What became of it

    def record(self, job: str) -> JobRecord | None:
        found = self.server.logs["JOBS"].last(str(flow.Job(TENANT, job)))
        return decode(JobRecord, found.data) if found else None

    def settle(self, jobs: list[str]) -> bool:
        """Let time pass until all is over; whether it is."""
        until = self.loop.time() + SETTLED_SECONDS
        while not self._over(jobs) and self.loop.time() < until:
            self.pass_time(5.0)
        self.pass_time(5.0)
        return self._over(jobs)

    def _over(self, jobs: list[str]) -> bool:
        records = [self.record(job) for job in jobs]
        ended = all(record is not None and record.ended for record in records)
        done = self.server.logs["DONE"]
        return (
            ended
            and all(done.last(str(flow.Done(TENANT, job))) is not None for job in jobs)
            and not self.server.logs["ORDERS"].messages
        )

    def end_state(self, jobs: list[str]) -> dict[str, object]:
        """What JOBS, DONE and the projection say of each job, and what stands."""
        rows = self._rows()
        told: dict[str, object] = {}
        for number, job in enumerate(jobs):
            done = self.server.logs["DONE"].last(str(flow.Done(TENANT, job)))
            record, final = self.record(job), decode(JobRecord, done.data) if done else None
            told[f"{number} {self.kinds[job]}"] = (_verdict(record), final == record, rows.get(job))
        told["orders"] = len(self.server.logs["ORDERS"].messages)
        told["jobs"] = len(rows)
        told["buried"] = len(self.server.logs["DLQ"].messages)
        return told

    def _rows(self) -> dict[str, str]:
        reading = open_for_reading(self._projection)
        try:
            return dict(reading.execute("SELECT job, state FROM jobs").fetchall())
        finally:
            reading.close()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


def _verdict(record: JobRecord | None) -> object:
    return None if record is None else (record.state.value, record.reason, record.exit_code)


def _refused(error: Exception, tenant: str) -> None:
    raise AssertionError(f"{tenant} was refused: {error}")


async def _none_queued(_: str, __: int) -> int:
    return 0


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait([task])
