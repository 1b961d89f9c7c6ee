"""What ends an attempt from within: the job's timeout, and the fence. Both work without the bus."""

import asyncio
import time
from pathlib import Path

import structlog

from runner.protocol.attempt import Attempt
from runner.protocol.directory import AttemptDir, read_word

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


async def keep_fence(directory: AttemptDir, attempt: Attempt) -> None:
    """Under `rerun-fenced`: end the attempt once the edge had no contact with the hub for `fence_seconds`."""
    if attempt.on_lost != "rerun-fenced":
        return
    fence_ns = round(attempt.fence_seconds * NS)
    while (left := fence_ns - (boot_ns() - last_contact_ns(attempt.contact_file, attempt))) > 0:  # noqa: ASYNC110 - a timer
        await asyncio.sleep(left / NS)
    if directory.end("fenced"):
        log.warning("attempt_fenced", job=attempt.grant.job, fence_seconds=attempt.fence_seconds)


def last_contact_ns(path: Path, attempt: Attempt) -> int:
    """On CLOCK_BOOTTIME. Without a note the contact was when the attempt began."""
    word = read_word(path)
    if word is not None and word.isdecimal():
        return int(word)
    return attempt.deadline_boot_ns - round(attempt.timeout_seconds * NS)
