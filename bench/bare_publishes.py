"""The limit of jobs/s: a job's messages, published bare, in the same run on the same server."""

import asyncio
import time

from bench.raw_nats import RawNats
from bench.stack import Stack
from shared.flow import GATEWAY, Buried
from shared.ids import random_id

MESSAGE_BYTES = 420
"""About the mean of the twelve."""
WINDOW = 256


async def publishes_per_second(stack: Stack, jobs: int, count_per_job: int = 12) -> float:
    """Stored and acknowledged, a window of them under way, over one connection."""
    count = min(jobs * count_per_job, 40_000)
    bus = await RawNats.connect(stack.nats_url, stack.identity.credential(GATEWAY))
    slots, data = asyncio.Semaphore(WINDOW), b"x" * MESSAGE_BYTES
    subject = str(Buried("gateway"))
    answers = []

    def landed(answer: "asyncio.Future[bytes]") -> None:
        slots.release()
        if b'"error"' in answer.result():
            raise SystemExit(f"not stored: {answer.result()!r}")

    began = time.monotonic()
    for _ in range(count):
        await slots.acquire()
        answer = bus.ask(subject, data, {"ce-id": random_id()})
        answer.add_done_callback(landed)
        answers.append(answer)
    await asyncio.gather(*answers)
    seconds = time.monotonic() - began
    bus.close()
    return count / seconds
