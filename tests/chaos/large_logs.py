"""Logs as large and as many as they come. Not part of `make test`:

python -m pytest tests/chaos/large_logs.py -s
"""

import asyncio
import hashlib
import json
import random
import sys
from pathlib import Path

import pytest

from tests.e2e import large_log
from tests.e2e.large_log import MIB
from tests.e2e.platform import Platform
from tests.integration.log_collector.steps import quick
from tests.integration.logs.conftest import place, weed
from tests.integration.logs.machine import Attempt, Place, kill_server
from tests.integration.logs.reading import read

__all__ = ("place", "weed")

BOUNDS = {"step-ctl": 200 * MIB, "hub": 700 * MIB, "entrypoint": 20 * MIB}
"""Of a log of 1 GiB: what is bounded does not grow with it."""
WRITES = """
import random, sys, time
wrote = random.Random({number}).randbytes({size})
for part in range(20):
    sys.stdout.buffer.write(wrote[len(wrote) * part // 20 : len(wrote) * (part + 1) // 20])
    sys.stdout.buffer.flush()
    time.sleep(0.5)
"""


def test_a_gibibyte_is_whole_at_every_door_and_memory_is_bounded(tmp_path: Path) -> None:
    platform = Platform(tmp_path, tmp_path / "data")
    platform.start()
    try:
        wanted = large_log.digest(1024)
        job = json.loads(platform.run("run", "--detach", "--json", cwd=_tree(platform)).out)["id"]
        with large_log.peaks(platform.data) as peaks:
            live = large_log.Command.start(platform, "logs", "-f", "--step", "1", job)
            assert live.digest() == wanted
            assert large_log.raw_digest(platform, job) == wanted
            later = large_log.Command.start(platform, "logs", "--step", "1", job)
            assert later.digest() == wanted
        seen = {**peaks, "logs -f": live.peak_bytes, "logs": later.peak_bytes}
        sys.stdout.write(f"\npeak MiB: { ({name: peak // MIB for name, peak in seen.items()}) }\n")
        assert {name: peak for name, peak in peaks.items() if peak > BOUNDS.get(name, peak)} == {}
        assert max(live.peak_bytes, later.peak_bytes) < 200 * MIB
    finally:
        platform.end()


def _tree(platform: Platform) -> Path:
    return platform.spec(json.dumps(large_log.spec(1024)))


@pytest.mark.parametrize("jobs", [30, 200])
async def test_real_jobs_by_the_hundred_lose_nothing_while_collector_and_bus_die(place: Place, jobs: int) -> None:
    """Each with an entrypoint and a step-ctl of its own."""
    chance = random.Random(3)
    sizes = [chance.randrange(1, 400_000) for _ in range(jobs)]
    attempts: list[Attempt] = []
    for number, size in enumerate(sizes):
        command = [sys.executable, "-c", WRITES.format(number=number, size=size)]
        attempts.append(await place.start({"steps": [{"command": command}]}))
    for _ in range(3):
        async with place.collecting(quick(leave_seconds=0.05)):
            await kill_server(place.server)
            await asyncio.to_thread(place.server.restart)
    async with place.collecting(quick()):
        for attempt in attempts:
            assert (await place.ended(attempt)).outcome == "succeeded"
            await place.told(attempt)
        for number, (attempt, size) in enumerate(zip(attempts, sizes, strict=True)):
            wrote = random.Random(number).randbytes(size)
            answer = await read(place, attempt.job, step=1)
            assert hashlib.sha256(answer.content).digest() == hashlib.sha256(wrote).digest()
            assert answer.headers["overspill-log-complete"] == "true"
