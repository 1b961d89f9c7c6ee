"""A bus with real accounts, a test's hub on it, and agents as processes. Nothing is left behind."""

import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_config import server_config
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.flow import Party
from tests.integration.runner.hub import CLUSTER, HUB, TENANT, AgentProcess, Hub, mine


class Server:
    """A nats-server in operator mode, to be killed and started again on the same port and data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.identity = Identity.create(directory / "identity")
        self.identity.add_tenant(TENANT)
        self.identity.add_cluster(CLUSTER)
        self.port = -1
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        program = str(binary) if binary.exists() else shutil.which("nats-server")
        assert program is not None
        config = self.directory / "nats.conf"
        config.write_text(server_config(self.identity, self.directory, port=self.port))
        self._process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "Listening for client connections on" in line:
                self.port = int(line.rsplit(":", 1)[1])
            if "Server is ready" in line:
                return
        raise AssertionError("nats-server ended before it was ready")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.communicate()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "nats"
    directory.mkdir()
    server = Server(directory)
    server.start()
    yield server
    server.end()


@pytest.fixture
async def hub(server: Server, tmp_path: Path) -> AsyncIterator[Hub]:
    async with NatsBus.connect(server.url, server.identity.credential(PROVISIONER), name="provision") as bus:
        await provision(bus)
    party = Party(HUB.name, "hub", publishes=(">",), subscribes=(">",), reads=HUB.reads)
    async with (
        NatsBus.connect(server.url, server.identity.credential(party), name="hub") as bus,
        Hub.serving(bus, server.identity, server.url, tmp_path) as hub,
    ):
        yield hub


@pytest.fixture
def agents(tmp_path: Path, hub: Hub) -> Iterator[Callable[..., AgentProcess]]:
    made: list[AgentProcess] = []

    def make(machine: str = "m1", **environment: str) -> AgentProcess:
        agent = AgentProcess(hub, tmp_path / machine, machine, environment)
        made.append(agent)
        return agent.start()

    yield make
    for agent in made:
        if agent.process is not None:
            agent.signal(signal.SIGKILL)
        for pid in mine(agent.data):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
