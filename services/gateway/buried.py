"""The newest messages of DLQ, without reading the older ones: streams are read forwards alone, so in stretches from the
end, each longer than the one before, for where a filter or a gap leaves little.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import cast

from shared.bus import Bus, Message
from shared.flow import DLQ

GROWTH = 4


async def newest(bus: Bus, subjects: str, count: int, before: int | None = None) -> list[Message]:
    """At most `count` on `subjects`, newest first; of those before sequence `before`. Raises Unavailable."""
    first, end = max(1, await bus.first_seq(DLQ)), await bus.end_seq(DLQ)
    if before is not None:
        end = min(end, before - 1)
    found: list[Message] = []
    stretch = count
    while len(found) < count and first <= end:
        start = max(first, end - stretch + 1)
        found.extend(reversed(await _between(bus, subjects, start, end)))
        end, stretch = start - 1, stretch * GROWTH
    return found[:count]


async def _between(bus: Bus, subjects: str, start: int, end: int) -> list[Message]:
    found = []
    reading = cast("AsyncGenerator[Message, None]", bus.read(DLQ, subjects, from_seq=start))
    async with contextlib.aclosing(reading) as messages:
        async for message in messages:
            if message.seq > end:
                break
            found.append(message)
    return found
