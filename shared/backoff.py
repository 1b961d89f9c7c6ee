"""Waiting out what is away: asked again, with pauses that grow."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from shared.errors import Unavailable

log = structlog.get_logger()

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


async def until_available(what: str, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives once it no longer raises Unavailable; each time that it does there is a line in the log.

    For what may be asked twice, where nobody waits for an answer: as when a service starts.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await ask()
        except Unavailable as error:
            log.warning("waits", what=what, why=str(error))
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
