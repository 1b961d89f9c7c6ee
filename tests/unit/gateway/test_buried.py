"""A page of DLQ: the newest first, and read is what is shown."""

import random
from collections.abc import AsyncIterator

import pytest

from services.gateway.buried import newest
from shared.bus import Message
from shared.flow import DLQ, Buried
from shared.stream import Stream
from tests.memory_bus import MemoryBus, MemoryServer


class Counting(MemoryBus):
    """Counts the messages that were read."""

    count = 0

    async def read(self, stream: Stream, *filters: str, from_seq: int) -> AsyncIterator[Message]:
        async for message in super().read(stream, *filters, from_seq=from_seq):
            self.count += 1
            yield message


@pytest.fixture
def bus() -> Counting:
    return Counting(MemoryServer())


async def bury(bus: MemoryBus, *senders: str) -> None:
    for sender in senders:
        await bus.publish(Buried("gateway", sender), b"x")


async def test_a_page_reads_little_more_than_it_shows_however_many_are_buried(bus: Counting) -> None:
    await bury(bus, *(f"t{number % 40}" for number in range(4000)))
    page = await newest(bus, Buried.filter(), 21)
    assert [message.seq for message in page] == list(range(4000, 3979, -1))
    older = await newest(bus, Buried.filter(), 21, before=2000)
    assert [message.seq for message in older] == list(range(1999, 1978, -1))
    assert bus.count <= 2 * 21 + 1


@pytest.mark.parametrize("seed", range(20))
async def test_pages_one_after_another_tell_every_message_once_whatever_was_removed(bus: Counting, seed: int) -> None:
    chosen = random.Random(seed)
    await bury(bus, *(chosen.choice(("a", "a", "a", "b", "rare")) for _ in range(chosen.randrange(200))))
    for sender in ("a", "b", "rare"):
        if chosen.random() < 0.3:
            await bus.purge(DLQ, str(Buried("gateway", sender)))
    if chosen.random() < 0.5:
        await bus.purge_through(DLQ, chosen.randrange(100))
    subjects = chosen.choice((Buried.filter(), Buried.filter(sender="rare"), Buried.filter(sender="b")))
    kept = [message.seq async for message in bus.read(DLQ, subjects, from_seq=1)]
    told: list[int] = []
    limit = chosen.randrange(1, 9)
    while page := await newest(bus, subjects, limit, before=told[-1] if told else None):
        told.extend(message.seq for message in page)
    assert told == kept[::-1]


async def test_an_empty_dlq_is_an_empty_page(bus: Counting) -> None:
    assert await newest(bus, Buried.filter(), 5) == []
