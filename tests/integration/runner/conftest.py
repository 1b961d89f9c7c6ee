"""A bus with real accounts, a test's hub on it, and agents as processes. Nothing is left behind."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, AgentProcess, Hub, end_processes


@pytest.fixture
def server(fresh_bus_server: BusServer) -> BusServer:
    return fresh_bus_server


@pytest.fixture
async def hub(server: BusServer, tmp_path: Path) -> AsyncIterator[Hub]:
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, tmp_path) as hub,
    ):
        yield hub


@pytest.fixture
def agents(tmp_path: Path, hub: Hub) -> Iterator[Callable[..., AgentProcess]]:
    """`agents(machine, SETTING=…)` starts an agent on a data directory named after its machine."""
    made: list[AgentProcess] = []

    def make(machine: str = "m1", **environment: str) -> AgentProcess:
        agent = AgentProcess(hub, tmp_path / machine, machine, environment)
        made.append(agent)
        return agent.start()

    yield make
    for agent in made:
        end_processes(agent)
