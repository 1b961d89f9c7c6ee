"""Real scheduler, cluster-metrics, bus and agents; of the gateway there is a test's hand that submits, grants and
cancels.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.scheduler.settings import Settings
from shared.facts import JobRecord
from shared.ids import random_id
from shared.needs import Needs
from shared.spec import JobSpec
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, AgentProcess, Hub, end_processes
from tests.integration.runner.line import Line, line_to
from tests.integration.scheduler.world import World, world

FENCE_SECONDS, GRACE_SECONDS = 8.0, 1.0
SETTINGS = Settings(
    accept_seconds=60.0,
    retry_seconds=0.05,
    fence_seconds=FENCE_SECONDS,
    fence_margin_seconds=1.5,
    kill_grace_seconds=GRACE_SECONDS,
    confirm_seconds=60.0,
    explain_after_seconds=0.1,
)
NEEDS = Needs(cpu_millis=100, memory_bytes=2**28, disk_bytes=2**20)


@dataclass
class Region:
    world: World
    hub: Hub
    directory: Path
    stack: AsyncExitStack
    agents: list[AgentProcess] = field(default_factory=list)

    async def machine(self, name: str, **environment: str) -> tuple[AgentProcess, Line]:
        """An agent, and the line on which all that belongs to its machine reaches the bus."""
        line = await self.stack.enter_async_context(line_to(self.hub.url))
        self.hub.routes[name] = line.url
        settings = {
            "OVERSPILL_NATS_URL": line.url,
            "OVERSPILL_AGENT_BEAT_SECONDS": "0.8",
            "OVERSPILL_AGENT_GRACE_SECONDS": str(GRACE_SECONDS),
        }
        agent = AgentProcess(self.hub, self.directory / name, name, settings | environment)
        self.agents.append(agent)
        return agent.start(), line

    async def submit(self, spec: dict[str, Any], **about: Any) -> str:
        job = random_id()
        self.hub.specs[job] = JobSpec.model_validate(spec)
        return await self.world.submit(job=job, needs=NEEDS, step_count=len(spec["steps"]), **about)

    async def accepted(self, job: str, epoch: int) -> JobRecord:
        await self.hub.until(job, "attempt-accepted", epoch=epoch)
        return await self.world.until(job, lambda record: record.epoch == epoch)

    def attempt(self, agent: AgentProcess, job: str, epoch: int) -> Path:
        return agent.data / "attempts" / f"{job}-{epoch}"


@asynccontextmanager
async def region(server: BusServer, directory: Path) -> AsyncIterator[Region]:
    async with (
        AsyncExitStack() as stack,
        world(server) as made,
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, directory, orders=False) as hub,
        made.scheduler(SETTINGS),
    ):
        region = Region(made, hub, directory, stack)
        try:
            yield region
        finally:
            for agent in region.agents:
                end_processes(agent)
