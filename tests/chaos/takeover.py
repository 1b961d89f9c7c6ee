"""`python -m tests.chaos.takeover --kills 20`: how soon after its leader's kill -9 a standby leads, on one NATS."""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from shared.adapters.identity import Identity
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from tests.conftest import BusServer
from tests.integration.scheduler.test_takeover import leads, process
from tests.integration.scheduler.world import World, good, world

PROMISED_SECONDS = 3.0
LOOK_SECONDS = 0.005


async def measure(w: World, home: Path, kills: int) -> list[float]:
    """Seconds from each kill to the standby's word that it leads. Jobs come and go meanwhile."""
    edge = await w.edge(good, cpus=64)
    took: list[float] = []
    with ExitStack() as standing:
        both = deque((home / f"{n}.log", standing.enter_context(process(w, home, str(n)))) for n in range(2))
        async with w.alive(edge):
            while not leads(both[0][0]):
                if leads(both[1][0]):
                    both.rotate()
                await asyncio.sleep(LOOK_SECONDS)
            for number in range(2, kills + 2):
                # Not at the end of a round: the kill falls anywhere between two renewals of the lease.
                jobs = [await w.submit() for _ in range(10)]
                await w.done(jobs[-1])
                _, leader = both.popleft()
                leader.send_signal(signal.SIGKILL)
                killed_at = time.monotonic()
                waiting = [await w.submit() for _ in range(10)]
                while not leads(both[0][0]):
                    await asyncio.sleep(LOOK_SECONDS)
                took.append(time.monotonic() - killed_at)
                both.append((home / f"{number}.log", standing.enter_context(process(w, home, str(number)))))
                for job in waiting:
                    await w.done(job)
                while '"event":"state_loaded"' not in both[1][0].read_text():
                    await asyncio.sleep(LOOK_SECONDS)
    return took


async def _main(kills: int) -> int:
    with tempfile.TemporaryDirectory(prefix="takeover-") as scratch:
        home = Path(scratch)
        server = BusServer(home / "nats", Identity.create(home / "identity"))
        server.identity.add_tenant("t1")
        server.identity.add_cluster("c1")
        server.start()
        try:
            async with server.connect(server.identity.credential(PROVISIONER)) as bus:
                await provision(bus)
            async with world(server) as w:
                took = sorted(await measure(w, home, kills))
        finally:
            server.stop()
    late = sum(seconds > PROMISED_SECONDS for seconds in took)
    sys.stdout.write(
        f"takeover after kill -9: {kills} kills, min {took[0]:.2f} s, median {statistics.median(took):.2f} s, "
        f"max {took[-1]:.2f} s, later than {PROMISED_SECONDS:g} s: {late}\n"
    )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover")
    parser.add_argument("--kills", type=int, default=20)
    sys.exit(asyncio.run(_main(parser.parse_args().kills)))
