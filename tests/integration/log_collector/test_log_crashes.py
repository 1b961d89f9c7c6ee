"""Killed at any point, a collector loses no byte and doubles none."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from services.log_collector.sharing import partition_of
from shared.adapters.nats_bus import NatsBus
from shared.adapters.s3_objects import S3Objects
from shared.errors import Unavailable
from shared.flow import LEASE, LOG, LogAt
from shared.settings import ObjectSettings
from tests.contract.conftest import Server
from tests.integration.log_collector.steps import PATIENCE_SECONDS, Step, collecting, quick

Point = Literal["before part", "after part", "after part that replaces another"]


class Stopping:
    """An object store that, at one point, lets its user go no further: the rest of it is as good as dead."""

    def __init__(self, objects: S3Objects, point: Point) -> None:
        self._objects = objects
        self._point = point
        self._puts = 0
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    async def put(self, key: str, data: bytes) -> None:
        self._puts += 1
        stops = self._puts > (1 if self._point == "after part that replaces another" else 0)
        if not (stops and self._point == "before part"):
            await self._objects.put(key, data)
        if stops:
            self.reached.set()
            await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("point", ["before part", "after part", "after part that replaces another"])
async def test_a_collector_dies_around_a_part(bus: NatsBus, objects: S3Objects, point: Point) -> None:
    step, stopping = Step(bus), Stopping(objects, point)
    async with collecting(quick(leave_seconds=0.05), bus, stopping):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not stopping.reached.is_set():
                await step.say(f"line at {step.sent}\n".encode() * 50)
    expected_so_far = step.sent
    async with collecting(quick(), bus, objects):
        data, told = await step.log()
        assert (len(data), told.end) == (expected_so_far, expected_so_far)
        await step.say(b"and the last line\n")
        await step.end()
        await step.until_complete()
        data, told = await step.log()
    assert len(data) == step.sent
    assert (told.verified, told.missing_bytes, told.complete) == (True, 0, True)


async def test_a_checkpoint_never_passes_what_is_not_durable(bus: NatsBus, objects: S3Objects) -> None:
    step, other, stopping = Step(bus), Step(bus), Stopping(objects, "before part")
    async with collecting(quick(leave_seconds=0.05), bus, stopping):
        await step.say(b"not stored")
        await asyncio.wait_for(stopping.reached.wait(), PATIENCE_SECONDS)
        for _ in range(20):
            await other.say(b"more")
    first = await bus.last(LOG, LogAt(partition_of(*step.id[:2]), *step.id))
    assert first is not None
    checkpoint = await bus.bucket(LEASE).get(f"log-collector.checkpoint.{partition_of(*step.id[:2])}")
    assert checkpoint is None or int(checkpoint.value) < first.seq


async def test_partitions_are_computed_as_the_bus_computes_them(bus: NatsBus) -> None:
    for number in range(40):
        step = Step(bus)
        step.id = step.id._replace(tenant=f"tenant-{number}")
        await step.say(b"x")
        found = await bus.last(LOG, LogAt.filter(tenant=step.id.tenant, job=step.id.job, epoch=1, step=1))
        assert found is not None
        assert LogAt.parse(found.subject).partition == partition_of(step.id.tenant, step.id.job)


class Process:
    """A collector in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, event: str, members: int | None = None) -> None:
        """Its own log line is the event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self.process.stderr:
                fact = json.loads(line) if line.startswith(b"{") else {}
                if fact.get("event") == event and members in (None, len(fact.get("members", ()))):
                    return
        raise AssertionError(f"it ended before {event}")

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()


@contextlib.asynccontextmanager
async def collector_process(server: Server, weed: ObjectSettings, instance: str) -> AsyncIterator[Process]:
    prefix = "OVERSPILL_LOG_COLLECTOR_"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OVERSPILL_NATS_URL": server.url,
        "OVERSPILL_S3_URL": weed.url,
        "OVERSPILL_S3_BUCKET": weed.bucket,
        "OVERSPILL_S3_CREDENTIALS_FILE": str(weed.credentials_file),
        f"{prefix}INSTANCE": instance,
        f"{prefix}PART_AGE_SECONDS": "0.05",
        f"{prefix}CHECKPOINT_SECONDS": "0.1",
        f"{prefix}MEMBER_TTL_SECONDS": "2",
    }
    process = Process(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.log_collector", env=environment, stderr=asyncio.subprocess.PIPE
        )
    )
    try:
        yield process
    finally:
        await process.kill()


@contextlib.asynccontextmanager
async def saying(steps: list[Step]) -> AsyncIterator[None]:
    """The steps talk for as long as the context lasts, and have finished their sentence when it's over."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for step in steps:
            tasks.create_task(say_until(step, stop))
        try:
            yield
        finally:
            stop.set()


async def say_until(step: Step, stop: asyncio.Event) -> None:
    chance = random.Random(step.id.job)
    while not stop.is_set():
        await step.say(chance.randbytes(chance.randrange(1, 20_000)))
        # A pace that any machine keeps up with: this is about truth, not speed.
        await asyncio.sleep(0.01)


async def test_killed_again_and_again_under_load_no_byte_is_lost_or_doubled(
    bus: NatsBus, nats: Server, weed: ObjectSettings, objects: S3Objects
) -> None:
    steps = [Step(bus) for _ in range(8)]
    async with saying(steps):
        for _ in range(3):
            async with collector_process(nats, weed, "again") as process:
                await process.until("log_collector_ready")
                before = min(step.sent for step in steps)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while min([(await step.durable(flush=False)).durable_bytes[1] for step in steps]) <= before:
                        pass
    async with collecting(quick("again"), bus, objects):
        for step in steps:
            await step.end()
        await asyncio.gather(*(step.until_complete() for step in steps))
        for step in steps:
            data, told = await step.log()
            assert len(data) == step.sent
            assert (told.verified, told.missing_bytes) == (True, 0)


async def test_two_share_and_when_one_dies_the_other_takes_over(
    bus: NatsBus, nats: Server, weed: ObjectSettings, objects: S3Objects
) -> None:
    steps = [Step(bus) for _ in range(12)]
    async with collecting(quick("left"), bus, objects):
        async with saying(steps), collector_process(nats, weed, "right") as right:
            await right.until("log_collectors", members=2)
            await right.until("log_collector_ready")
            # Read by whoever owns them, asked of whoever answers.
            for step in steps:
                assert (await step.page())[1].end > 0
            await asyncio.gather(*(step.durable(flush=True) for step in steps))
            await right.kill()
            # Nobody owns half of them now; what they say is readable all the same.
            for step in steps:
                sent = step.sent
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while (await step.page(offset=sent))[1].end < sent:
                        pass
        for step in steps:
            await step.end()
        await asyncio.gather(*(step.until_complete() for step in steps))
        for step in steps:
            data, told = await step.log()
            assert len(data) == step.sent
            assert (told.verified, told.missing_bytes) == (True, 0)


async def test_while_the_store_is_away_logs_wait_and_can_be_read(bus: NatsBus, objects: S3Objects) -> None:
    class Away(Stopping):
        away = True

        async def put(self, key: str, data: bytes) -> None:
            if self.away:
                self.reached.set()
                raise Unavailable(what="the store", why="test")
            await self._objects.put(key, data)

    store = Away(objects, "before part")
    async with collecting(quick(memory_bytes=2**20), bus, store):
        step = Step(bus)
        await step.say(b"x" * 3_000_000)
        await asyncio.wait_for(store.reached.wait(), PATIENCE_SECONDS)
        assert (await step.page())[0] == b"x" * 524_288
        store.away = False
        await step.end()
        await step.until_complete()
        data, told = await step.log()
        assert (len(data), told.verified) == (3_000_000, True)


async def test_an_object_that_was_cut_when_its_writer_died_counts_for_nothing(bus: NatsBus, objects: S3Objects) -> None:
    step = Step(bus)
    await objects.put(f"{step.id.prefix}{0:013d}-{11:013d}-{1:013d}-99-dead.end.zst", b"")
    async with collecting(quick(), bus, objects):
        assert (await step.durable(flush=False)).durable_bytes == {1: 0}
        await step.say(b"hello again")
        await step.end()
        await step.until_complete()
        data, told = await step.log()
    assert (data, told.verified) == (b"hello again", True)
