"""The limit of jobs/s: a job's messages, published bare, in the same run on the same server."""

import asyncio
import os
from dataclasses import dataclass

from bench.measuring import CpuClock
from bench.raw_nats import RawNats
from bench.stack import Stack
from shared.flow import Buried
from shared.ids import random_id
from shared.parties import GATEWAY

MESSAGE_BYTES = 420
"""About the mean of the twelve."""
WINDOW = 256


@dataclass(frozen=True, slots=True)
class Bare:
    per_second: float
    cpu_seconds: float
    """Of one message, the server's and the publisher's: what compares on a machine that others use too."""


async def publish_bare(stack: Stack, count: int) -> Bare:
    """Stored and acknowledged, a window of them under way, over one connection."""
    bus = await RawNats.connect(stack.nats_url, stack.identity.credential(GATEWAY))
    slots, data = asyncio.Semaphore(WINDOW), b"x" * MESSAGE_BYTES
    subject = str(Buried("gateway", "bench"))
    answers = []

    def landed(answer: "asyncio.Future[bytes]") -> None:
        slots.release()
        if b'"error"' in answer.result():
            raise SystemExit(f"not stored: {answer.result()!r}")

    clock = CpuClock({"server": stack.processes()["nats-server"], "publisher": os.getpid()})
    for _ in range(count):
        await slots.acquire()
        answer = bus.ask(subject, data, {"ce-id": random_id()})
        answer.add_done_callback(landed)
        answers.append(answer)
    await asyncio.gather(*answers)
    seconds, cpu = clock.elapsed_seconds, sum(clock.seconds().values())
    bus.close()
    return Bare(count / seconds, cpu / count)
