"""What survives the loss of power, on a file system that really loses what was not synced."""

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.entrypoint import build
from runner.protocol.directory import AttemptDir
from runner.step_ctl import reading
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.errors import OverspillError
from shared.flow import JOBS, STREAMS, Job
from shared.parties import Party
from tests.chaos.lossy_disk import LossyDisk
from tests.conftest import BusServer

HUB = Party("test-hub", "hub", publishes=(">",), subscribes=(">",), reads=STREAMS)
PUBLISHERS = 16


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LossyDisk]:
    with LossyDisk.made(tmp_path) as disk:
        yield disk


def test_the_disk_of_these_tests_loses_what_was_not_synced_and_nothing_else(disk: LossyDisk) -> None:
    with (disk.path / "synced").open("w") as file:
        file.write("kept")
        file.flush()
        subprocess.run(["sync", str(disk.path / "synced")], check=True)
    subprocess.run(["sync", "-f", str(disk.path)], check=True)
    (disk.path / "written").write_text("gone")
    disk.lose_power()
    disk.power_on()
    assert (disk.path / "synced").read_text() == "kept"
    assert not (disk.path / "written").exists() or not (disk.path / "written").read_text()


async def start(disk: LossyDisk, home: Path, **options: object) -> BusServer:
    server = BusServer(disk.path / "nats", Identity.create(home / "identity"), options=dict(options))
    server.start()
    async with server.connect(server.identity.credential(PROVISIONER)) as bus:
        await provision(bus)
    # What is of the operator's doing, not of the second before the loss.
    subprocess.run(["sync", "-f", str(disk.path)], check=True)
    return server


async def publish_until(bus: NatsBus, stop: asyncio.Event, acknowledged: dict[str, float]) -> None:
    async def publisher(number: int) -> None:
        count = 0
        while not stop.is_set():
            job = f"j-{number}-{count}"
            try:
                await bus.publish(Job("t1", job), b"{}" + b" " * 300, expect_seq=0, timeout_seconds=1)
            except OverspillError:
                return
            acknowledged[job] = time.monotonic()
            count += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(PUBLISHERS):
            tasks.create_task(publisher(number))


async def lose(
    disk: LossyDisk, server: BusServer, due: Callable[[dict[str, float]], bool]
) -> tuple[dict[str, float], float, set[str]]:
    """(when each was acknowledged, when the power went, what is there afterwards)"""
    acknowledged: dict[str, float] = {}
    stop = asyncio.Event()
    async with server.connect(server.identity.credential(HUB)) as bus:
        publishing = asyncio.create_task(publish_until(bus, stop, acknowledged))
        async with asyncio.timeout(120):
            while not due(acknowledged):
                await asyncio.sleep(0.001)
        at = time.monotonic()
        disk.lose_power()
        before = dict(acknowledged)  # what is acknowledged later was acknowledged by a machine without power
        stop.set()
        server.kill()
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing
    disk.power_on()
    server.start()
    async with server.connect(server.identity.credential(HUB)) as bus:
        there = [message async for message in bus.read(JOBS, Job.filter(), from_seq=1)]
    return before, at, {Job.parse(message.subject).job for message in there}


@pytest.mark.parametrize("seed", range(5))
async def test_with_sync_always_every_acknowledged_job_survives(disk: LossyDisk, tmp_path: Path, seed: int) -> None:
    server = await start(disk, tmp_path, sync_interval_seconds=None)
    try:
        count = random.Random(seed).randrange(50, 300)
        acknowledged, _, there = await lose(disk, server, lambda told: len(told) >= count)
    finally:
        server.stop()
    assert len(acknowledged) >= count
    assert set(acknowledged) <= there


@pytest.mark.parametrize("seed", range(5))
async def test_with_the_default_only_the_last_moments_are_lost(disk: LossyDisk, tmp_path: Path, seed: int) -> None:
    """Synced every second: what was acknowledged two intervals before is there, however busy the server was."""
    server = await start(disk, tmp_path)
    try:
        until = time.monotonic() + random.Random(seed).uniform(4.0, 6.0)
        acknowledged, at, there = await lose(disk, server, lambda _: time.monotonic() >= until)
    finally:
        server.stop()
    old = {job for job, when in acknowledged.items() if when < at - 2.0}
    assert len(old) > 100
    assert old <= there
    lost = [at - when for job, when in acknowledged.items() if job not in there]
    print(f"acknowledged {len(acknowledged)}, lost {len(lost)}, the oldest of them {max(lost, default=0):.2f} s old")  # noqa: T201


@pytest.mark.parametrize("seed", range(5))
def test_the_end_of_the_last_step_is_whole_or_not_there(disk: LossyDisk, seed: int) -> None:
    """`exit` of the last step is synced before `finish` appears; a name without content counts as absent."""
    directory = AttemptDir(disk.path / "attempt")
    for name in ("steps/001", "go", "lost", "work"):
        (directory.root / name).mkdir(parents=True)
    (directory.root / "protocol").write_text("1\n")
    step = directory.root / "steps/001"
    (step / "config").write_text(f"mode foreground\ncwd {directory.work}\nnext finish\n")
    (step / "argv").write_bytes(b"/bin/sh\0-c\0echo done\0")
    (step / "env").write_bytes(b"PATH=/usr/bin:/bin\0")
    for name in ("env.out", "output.out", "summary.out"):
        (step / name).touch()
    subprocess.run(["sync", "-f", str(disk.path)], check=True)
    process = subprocess.Popen([str(build.binary()), "run", str(directory.root), "001"])
    (directory.root / "go/001").write_text("ok\n")
    seen_finish = False
    deadline = time.monotonic() + 20
    while not seen_finish:
        assert time.monotonic() < deadline
        seen_finish = directory.finish.exists()
    time.sleep(random.Random(seed).uniform(0, 0.01))
    disk.lose_power()
    process.wait(20)
    disk.power_on()
    seen = reading.read(directory, (False,))
    assert seen.steps[0].exit is not None, "finish was there, so the exit record had been synced"
    assert (seen.steps[0].exit.state, seen.steps[0].exit.code) == ("exited", 0)
