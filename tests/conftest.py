"""Real servers for every test: one bus and one object store a session, started when first asked for.

A test that needs a place of its own takes a tenant of its own (`bus_server.tenant()`), which costs a millisecond.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from xdist.remote import Producer

from overspill.embedded import nats_server
from overspill.embedded import object_store as embedded_store
from runner.entrypoint import build
from shared.adapters.accounts import Accounts
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.credential import Credential
from shared.ids import random_id
from shared.parties import Party
from shared.settings import ObjectSettings
from tests.sharing import Sharing

START_SECONDS = 30


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)


@dataclass
class BusServer:
    """A nats-server in operator mode with every stream and bucket. `restart` keeps address and data."""

    directory: Path
    identity: Identity
    url: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """More of `nats_server.prepare`."""
    _guard: "subprocess.Popen[bytes] | None" = None
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        port = int(self.url.rsplit(":", 1)[1]) if self.url else -1
        command = nats_server.prepare(self.directory, self.identity, port=port, **self.options)
        self._guard = self._ends.enter_context(guarded(command, self.directory / "server.log"))
        self.url = wait_for(lambda: nats_server.told_url(self.directory), self._guard, self.directory / "server.log")

    def stop(self) -> None:
        self._ends.close()

    def kill(self) -> None:
        """kill -9 of nats-server itself, this very instant."""
        for pid in self._servers():
            os.kill(pid, signal.SIGKILL)
        self.stop()

    def _servers(self) -> list[int]:
        assert self._guard is not None
        children = Path(f"/proc/{self._guard.pid}/task/{self._guard.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It keeps its connections and answers nothing, as on a machine that has too much to do."""
        (server,) = self._servers()
        os.kill(server, signal.SIGSTOP)
        try:
            wait_until_stopped(server)
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def connect(self, credential: Credential) -> AbstractAsyncContextManager[NatsBus]:
        return NatsBus.connect(self.url, credential, name=credential.name)

    async def tenant(self, name: str | None = None) -> str:
        """A tenant with an account, known to the server; a new one when no name is given."""
        name = name or f"t-{random_id()[:12]}"
        async with Accounts.connect(self.url, self.identity) as accounts:
            await accounts.add_tenant(name)
        return name

    async def cluster(self, name: str | None = None, tenants: tuple[str, ...] | None = None) -> str:
        name = name or f"c-{random_id()[:12]}"
        async with Accounts.connect(self.url, self.identity) as accounts:
            await accounts.add_cluster(name, tenants)
        return name


def wait_until_stopped(pid: int) -> None:
    """SIGSTOP is no barrier: a thread that runs on another core goes on until the kernel gets to it."""
    deadline = time.monotonic() + START_SECONDS
    while {_state(thread) for thread in Path(f"/proc/{pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < deadline, f"{pid} does not stop"
        time.sleep(0.001)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def guarded(
    command: list[str], log: Path, environment: dict[str, str] | None = None, directory: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that ends with the test session, however that ends."""
    read_end, write_end = os.pipe()
    guard = [str(build.binary()), "guard", "--lifeline", str(read_end), "--grace", "5000", "--"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(read_end,),
            start_new_session=True,
            env=environment,
            cwd=directory,
        )
    os.close(read_end)
    try:
        yield process
    finally:
        os.close(write_end)
        process.wait(30)


def wait_for(look: Callable[[], str | None], process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while (found := look()) is None:
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.01)
    return found


@pytest.fixture(scope="session")
def bus_server_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusServer]:
    home = tmp_path_factory.mktemp("bus")
    server = BusServer(home / "nats", Identity.create(home / "identity"))
    server.identity.add_tenant("t1")
    server.identity.add_cluster("c1")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus_server(bus_server_started: BusServer) -> BusServer:
    """The session's bus: url, identity, streams provisioned. Tenant `t1` and cluster `c1` are there."""
    async with bus_server_started.connect(bus_server_started.identity.credential(PROVISIONER)) as bus:
        await provision(bus)
    return bus_server_started


@pytest.fixture
async def fresh_bus_server(tmp_path: Path) -> AsyncIterator[BusServer]:
    """A bus of the test's own, to be killed, restarted or counted."""
    server = BusServer(tmp_path / "nats", Identity.create(tmp_path / "identity"))
    server.identity.add_tenant("t1")
    server.identity.add_cluster("c1")
    server.start()
    async with server.connect(server.identity.credential(PROVISIONER)) as bus:
        await provision(bus)
    yield server
    server.stop()


@pytest.fixture
async def hub_bus(bus_server: BusServer) -> AsyncIterator[Callable[..., object]]:
    """`await hub_bus(GATEWAY)`: a connection as that party, closed with the test. `tenant=` and `cluster=` for parties
    of those accounts.
    """
    async with AsyncExitStack() as stack:

        async def connect(party: Party, *, tenant: str | None = None, cluster: str | None = None) -> NatsBus:
            credential = bus_server.identity.credential(party, tenant=tenant, cluster=cluster)
            return await stack.enter_async_context(bus_server.connect(credential))

        yield connect


@pytest.fixture(scope="session")
def object_store_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectSettings]:
    store = embedded_store.prepare(tmp_path_factory.mktemp("objects"))
    log = store.directory / "weed.log"
    with guarded(store.command, log, store.environment, store.directory) as process:

        def look() -> str | None:
            with contextlib.suppress(httpx.HTTPError):
                return "yes" if httpx.get(f"{store.settings.url}/healthz", timeout=1).is_success else None
            return None

        wait_for(look, process, log)
        yield store.settings


@pytest.fixture
async def object_store(object_store_started: ObjectSettings) -> ObjectSettings:
    """The session's S3: settings to connect with. Keys of other tests may be there: use a prefix of your own."""
    await embedded_store.until_it_stores(object_store_started)
    return object_store_started
