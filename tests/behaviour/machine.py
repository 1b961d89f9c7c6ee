"""A machine as a place: one with the real agent, step-ctl and entrypoint, on a real bus."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.facts import AttemptEnded, Desired, Order, StepEnded
from shared.facts.log import LogChunk
from shared.flow import LOG
from shared.needs import Needs
from tests.behaviour.place import GRACE_SECONDS, MEMORY_BYTES
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, PATIENCE_SECONDS, TENANT, AgentProcess, Hub, Log, end_processes
from tests.integration.runner.waiting import until_gone


@dataclass
class HubRun:
    """A job as the hub sees it, wherever it runs."""

    hub: Hub
    order: Order

    async def ended(self) -> AttemptEnded:
        return await self.hub.ended(self.order)

    async def step(self, number: int) -> StepEnded:
        fact = await self.hub.until(self.order.job, "step-ended", number)
        return StepEnded.model_validate(fact)

    async def log(self, number: int) -> bytes:
        return (await self.hub.log(self.order.job, number)).data

    async def said(self, number: int, words: bytes) -> None:
        log = Log()
        async with asyncio.timeout(PATIENCE_SECONDS):
            subject = f"logs.*.{TENANT}.{self.order.job}.1.{number}"
            async for message in self.hub.bus.tail(LOG, subject, from_seq=1):
                log.take(LogChunk.read(dict(message.headers), message.data))
                if words in log.data:
                    return

    async def cancel(self) -> None:
        await self.hub.change(self.order, desired=Desired.CANCEL)


@dataclass
class MachineRun(HubRun):
    agent: AgentProcess

    @property
    def directory(self) -> Path:
        return self.agent.attempt(self.order)

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        async with drained(self.agent):
            yield

    async def left(self) -> list[str]:
        await until_gone(self.directory)
        return processes_of(self.order.job)


@dataclass
class MachinePlace:
    hub: Hub
    agent: AgentProcess
    loopback: str = "127.0.0.1"

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> MachineRun:
        order = await self.hub.order(spec, self.agent.machine, timeout_seconds=timeout_seconds)
        return MachineRun(self.hub, order, self.agent)

    async def submit_small(self, spec: dict[str, Any]) -> MachineRun:
        needs = Needs(cpu_millis=100, memory_bytes=MEMORY_BYTES, disk_bytes=2**20)
        return MachineRun(self.hub, await self.hub.order(spec, self.agent.machine, needs=needs), self.agent)


@asynccontextmanager
async def drained(agent: AgentProcess) -> AsyncIterator[None]:
    await asyncio.to_thread(agent.signal, signal.SIGTERM)  # it waits for the hub, which is served here
    yield
    agent.start()


def processes_of(job: str) -> list[str]:
    """Every process that has to do with this job: by its command, environment, working directory or control group."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            parts = [(entry / name).read_bytes() for name in ("cmdline", "environ", "cgroup")]
            place = str((entry / "cwd").readlink())
            if job.encode() in b"".join(parts) or job in place:
                found.append(f"{entry.name} {parts[0].decode(errors='replace')} in {place}")
    return found


@asynccontextmanager
async def machine_place(
    server: BusServer, directory: Path, data: Path | None = None, **environment: str
) -> AsyncIterator[MachinePlace]:
    """`data`: where the agent keeps its attempts, if elsewhere."""
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, directory) as hub,
    ):
        settings = {
            "OVERSPILL_AGENT_GRACE_SECONDS": str(GRACE_SECONDS),
            "OVERSPILL_AGENT_DRAIN_SECONDS": "0",
            **environment,
        }
        agent = AgentProcess(hub, data or directory / "agent", "m1", settings)
        try:
            yield MachinePlace(hub, agent.start())
        finally:
            end_processes(agent)
