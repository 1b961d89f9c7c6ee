"""The embedded object store on a disk that others fill to the last byte. Needs to mount a tmpfs: root."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from overspill.embedded import object_store, storing
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.adapters.s3_objects import S3Objects
from shared.errors import Unavailable
from tests.chaos.test_full_disk import fill, tmpfs
from tests.contract.conftest import Server
from tests.integration.log_collector.steps import PATIENCE_SECONDS, Step, collecting, quick

DISK_BYTES = 500 * 2**20
LOGS = 16
"""Folders: the store spreads them over eight index databases, of which one or two fail for good."""
REFUSALS = 3 * LOGS


class Counting:
    """The real store; counts the parts that it refused."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects
        self.refused = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    async def put(self, key: str, data: bytes) -> None:
        try:
            await self._objects.put(key, data)
        except Unavailable:
            self.refused += 1
            raise


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    with tmpfs(path, DISK_BYTES):
        yield path


class Store:
    """The embedded one, started again as `overspill up` does."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.prepared = object_store.prepare(directory)
        self.restarts = 0
        self.restarted = asyncio.Event()
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        store = self.prepared
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *store.command, cwd=store.directory, env=store.environment, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()
        self.restarts += 1
        self.restarted.set()


@pytest.fixture
async def store(disk: Path, tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(disk / "objects", tmp_path / "weed.log")
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
async def objects(store: Store) -> AsyncIterator[S3Objects]:
    await object_store.until_it_stores(store.prepared.settings)
    async with S3Objects.connect(store.prepared.settings) as objects:
        yield objects


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NatsBus]:
    directory = tmp_path / "nats"
    directory.mkdir()
    server = Server(directory)
    server.start()
    try:
        async with NatsBus.connect(server.url, name="test") as bus:
            await provision(bus)
            yield bus
    finally:
        server.stop()


async def test_a_log_is_whole_in_the_store_once_a_full_disk_has_room_again(
    bus: NatsBus, store: Store, objects: S3Objects, disk: Path
) -> None:
    logs, counting = [Step(bus) for _ in range(LOGS)], Counting(objects)
    keeping = asyncio.create_task(storing.keep_taking(disk, store.restart))
    async with collecting(quick(), bus, counting):
        others = await asyncio.to_thread(fill, disk)
        async with asyncio.timeout(120):
            while counting.refused < REFUSALS:
                for each in logs:
                    await each.say(b"meanwhile\n")
                await asyncio.sleep(0.2)  # a job's own pace: parts of one or two lines
        assert store.restarts == 0
        others.unlink()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.restarted.wait()
        for each in logs:
            await each.end()
            await each.until_complete()
            data, told = await each.log()
            assert (len(data), told.verified) == (each.sent, True)
    async with collecting(quick("two"), bus, objects):
        for each in logs:
            assert len((await each.log())[0]) == each.sent  # by what the store says alone
    assert store.restarts == 1
    keeping.cancel()
