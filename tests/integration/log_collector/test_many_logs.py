"""Two hundred jobs write at once while collector and bus are killed; a full bus; a job that never stops."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.step_ctl.courier import Courier
from runner.step_ctl.log_pump import LogPump
from runner.step_ctl.masking import Mask
from services.log_collector import handlers
from services.log_collector.model import LogId
from services.log_collector.sharing import owner_of, partition_of
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision, stream_config
from shared.adapters.s3_objects import S3Objects
from shared.errors import Unavailable
from shared.flow import LEASE, LOG
from shared.ids import random_id
from shared.settings import ObjectSettings
from tests.contract.conftest import Server
from tests.integration.log_collector.steps import Step, collecting, quick, read_all
from tests.integration.log_collector.test_log_crashes import collector_process

CONNECTIONS = 8
PATIENCE_SECONDS = 180


@dataclass
class Writer:
    """A step's log file that grows, and its pump."""

    directory: Path
    bus: NatsBus
    id: LogId = field(default_factory=lambda: LogId("acme", random_id(), 1, 1))
    wrote: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    size: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir()
        grant = SimpleNamespace(tenant=self.id.tenant, job=self.id.job, epoch=1)
        courier = Courier(self.bus, cast("Any", SimpleNamespace(grant=grant, nonce=random_id())))
        self.pump = LogPump(1, self.directory, courier, Mask())

    def write(self, data: bytes) -> None:
        with (self.directory / "log").open("ab") as file:
            file.write(data)
        self.wrote.update(data)
        self.size += len(data)
        self.pump.grown.set()

    async def whole(self, reader: NatsBus) -> None:
        """What was written is what is stored and read."""
        step = Step(reader, self.id)
        await step.until_complete()
        data, told = await read_all(reader, self.id)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (self.size, self.wrote.hexdigest())
        assert (told.complete, told.missing_bytes, told.verified) == (True, 0, True)


@asynccontextmanager
async def writers(count: int, server: Server, directory: Path) -> AsyncIterator[list[Writer]]:
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(NatsBus.connect(server.url)) for _ in range(CONNECTIONS)]
        yield [Writer(directory / f"log-{number}", buses[number % CONNECTIONS]) for number in range(count)]


async def bound(bus: NatsBus, **changes: Any) -> None:
    await api(bus, f"STREAM.UPDATE.{LOG.name}", stream_config(replace(LOG, **changes), 1))


@pytest.fixture
async def own(server: Server) -> AsyncIterator[NatsBus]:
    """A bus of the test's own, to be killed."""
    async with NatsBus.connect(server.url, name="test") as bus:
        await provision(bus)
        yield bus


@pytest.fixture
def server(tmp_path: Path) -> Any:
    (tmp_path / "bus").mkdir()
    server = Server(tmp_path / "bus")
    server.start()
    yield server
    server.stop()


async def test_two_hundred_jobs_lose_nothing_while_collector_and_bus_are_killed(
    own: NatsBus, server: Server, weed: ObjectSettings, objects: S3Objects, tmp_path: Path
) -> None:
    chance = random.Random(5)
    async with writers(200, server, tmp_path) as all_writers, asyncio.TaskGroup() as tasks:
        pumps = [tasks.create_task(writer.pump.run()) for writer in all_writers]

        def write() -> None:
            for writer in all_writers:
                writer.write(chance.randbytes(chance.randrange(1, 60_000)))

        for kills in ("collector", "bus", "both"):
            write()
            async with collector_process(server, weed, "again") as collector:
                await collector.until("log_collector_ready")
                write()
                if kills != "collector":
                    server.kill()
                    write()
                    server.start()
        write()
        for writer in all_writers:
            writer.pump.end()
        async with collecting(quick("again"), own, objects):
            for writer, pump in zip(all_writers, pumps, strict=True):
                assert await asyncio.wait_for(pump, PATIENCE_SECONDS) == writer.size
            for writer in all_writers:
                await writer.whole(own)


async def test_what_is_durable_leaves_the_stream(own: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(), own, objects):
        step = Step(own)
        await step.say(os.urandom(3_000_000))
        await step.end()
        await step.until_complete()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await own.first_seq(LOG) <= await own.end_seq(LOG):
                await asyncio.sleep(0.05)
        data, told = await step.log()
        assert (len(data), told.verified) == (3_000_000, True)


class Refusing:
    """An object store that takes nothing of one log."""

    def __init__(self, objects: S3Objects, log: LogId) -> None:
        self._objects, self._log = objects, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    async def put(self, key: str, data: bytes) -> None:
        if key.startswith(self._log.prefix):
            raise Unavailable(what="the store", why="test")
        await self._objects.put(key, data)


async def test_what_is_not_durable_stays_in_the_stream(own: NatsBus, objects: S3Objects) -> None:
    """Others' bytes are durable, and more of them: the oldest that is not holds all behind it."""
    quiet, loud = Step(own), Step(own)
    await quiet.say(b"the only copy")
    checkpoint = f"log-collector.checkpoint.{partition_of(*loud.id[:2])}"
    async with collecting(quick(leave_seconds=0.05), own, Refusing(objects, quiet.id)):
        for _ in range(3):
            await loud.say(os.urandom(200_000))
            wanted = await own.end_seq(LOG)
            if partition_of(*loud.id[:2]) != partition_of(*quiet.id[:2]):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while (entry := await own.bucket(LEASE).get(checkpoint)) is None or int(entry.value) < wanted:
                        await asyncio.sleep(0.02)
        assert await own.first_seq(LOG) == 1
    async with collecting(quick(), own, objects):
        assert (await quiet.log())[0] == b"the only copy"


async def test_a_log_that_fills_its_share_waits_and_holds_up_nobody(
    own: NatsBus, server: Server, objects: S3Objects, tmp_path: Path
) -> None:
    """While nothing becomes durable a noisy step gets no further than its share; another one's log goes on."""
    await bound(own, max_messages_per_subject=20)
    async with writers(2, server, tmp_path) as (noisy, quiet), asyncio.TaskGroup() as tasks:
        noisy.write(os.urandom(20_000_000))
        pumping = tasks.create_task(noisy.pump.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await own.end_seq(LOG) < 20:
                await asyncio.sleep(0.01)
        quiet.write(b"a few words\n")
        quiet.pump.end()
        assert await asyncio.wait_for(quiet.pump.run(), PATIENCE_SECONDS) == quiet.size
        assert not pumping.done()
        noisy.pump.end()
        async with collecting(quick(), own, objects):
            await quiet.whole(own)
            assert await asyncio.wait_for(pumping, PATIENCE_SECONDS) == noisy.size
            await noisy.whole(own)


async def test_a_full_stream_takes_logs_again_once_they_are_durable(
    own: NatsBus, server: Server, objects: S3Objects, tmp_path: Path
) -> None:
    await bound(own, max_bytes=2 * 2**20)
    async with writers(4, server, tmp_path) as several, asyncio.TaskGroup() as tasks:
        for writer in several:
            writer.write(os.urandom(3_000_000))
            writer.pump.end()
        pumps = [tasks.create_task(writer.pump.run()) for writer in several]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await own.end_seq(LOG) < 30:
                await asyncio.sleep(0.01)
        async with collecting(quick(), own, objects):
            for pump in pumps:
                await asyncio.wait_for(pump, PATIENCE_SECONDS)
            for writer in several:
                await writer.whole(own)


async def test_a_log_whose_collector_is_gone_is_read_whole_from_the_stream(
    own: NatsBus, objects: S3Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of it waits in the stream than an answer may hold in memory; another collector answers all the same."""
    monkeypatch.setattr(handlers, "STREAM_BYTES", 200_000)
    monkeypatch.setattr(handlers, "OWNER_SECONDS", 0.2)
    # It seems to be alive, and answers nothing.
    await own.bucket(LEASE).put("log-collector.member.ghost", b"")
    async with collecting(quick(), own, objects):
        step = Step(own)
        while owner_of(partition_of(*step.id[:2]), frozenset({"one", "ghost"})) != "ghost":
            step = Step(own)
        wrote = os.urandom(1_500_000)
        await step.say(wrote)
        seen = bytearray()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(seen) < len(wrote):
                data, told = await step.page(offset=len(seen), over=True)
                assert (told.offset, told.end) == (len(seen), len(wrote))
                assert len(data) < 300_000
                seen += data
        assert hashlib.sha256(seen).digest() == hashlib.sha256(wrote).digest()
