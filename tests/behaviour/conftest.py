"""Places for all tests of a module, on a bus of its own: a machine, a pod; and a machine whose disk is small."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.adapters.identity import Identity
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from tests.behaviour.machine import MachinePlace, machine_place
from tests.behaviour.place import Place
from tests.behaviour.pod import PodPlace, pod_place
from tests.conftest import BusServer

DISK_BYTES = 16 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BusServer]:
    home = tmp_path_factory.mktemp("bus")
    server = BusServer(home / "nats", Identity.create(home / "identity"))
    server.identity.add_tenant("t1")
    server.identity.add_cluster("c1")
    server.start()
    async with server.connect(server.identity.credential(PROVISIONER)) as bus:
        await provision(bus)
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["machine", "pod"])
async def place(
    request: pytest.FixtureRequest, server: BusServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    directory = tmp_path_factory.mktemp("place")
    made = pod_place(server, directory) if request.param == "pod" else machine_place(server, directory)
    async with made as place:
        yield place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(server: BusServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MachinePlace]:
    async with machine_place(server, tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(server: BusServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PodPlace]:
    async with pod_place(server, tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    where = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(where)], check=True)
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small_place(
    server: BusServer, small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MachinePlace]:
    """All the agent keeps, attempts included, is on a small disk."""
    async with machine_place(server, tmp_path_factory.mktemp("small"), data=small_disk / "agent") as made:
        yield made
