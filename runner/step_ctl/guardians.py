"""What ends an attempt from within: the job's timeout. It works without the bus."""

import asyncio
import time

import structlog

from runner.protocol.attempt import Attempt
from runner.protocol.directory import AttemptDir

log = structlog.get_logger()

NS = 1_000_000_000


def boot_ns() -> int:
    """Monotonic, and goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def keep_deadline(directory: AttemptDir, attempt: Attempt) -> None:
    """End the attempt for `timeout` at its deadline. The leader orders the same; whoever is first."""
    while (left := attempt.deadline_boot_ns - boot_ns()) > 0:  # noqa: ASYNC110 - a timer; it stands while the machine sleeps
        await asyncio.sleep(left / NS)
    if directory.end("timeout"):
        log.info("attempt_timed_out", job=attempt.grant.job, timeout_seconds=attempt.timeout_seconds)
