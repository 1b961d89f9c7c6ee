"""A cluster goes only once nothing can be placed there any more."""

import pytest

from services.gateway import enrolling
from services.gateway.enrolling import Enrolling
from services.gateway.refusals import ClusterInUse, CordonUnconfirmed
from shared.bus import Headers, Message
from shared.errors import Unavailable
from shared.facts import JobRecord
from shared.flow import CLUSTERS, Job
from shared.requests import CordonAsked
from shared.tenancy import ClusterRecord
from shared.wire import decode, encode
from tests.memory_bus import MemoryBus, MemoryServer
from tests.unit.scheduler.town import record

SUBJECT = "svc.scheduler.cordoned"


@pytest.fixture
async def bus() -> MemoryBus:
    bus = MemoryBus(MemoryServer())
    await bus.bucket(CLUSTERS).put("c1", encode(ClusterRecord(cluster="c1", bus_urls=["nats://bus"])))
    return bus


class Scheduler:
    """Hears of a cordon with the third question; what it had decided by then, it places first."""

    def __init__(self, bus: MemoryBus, *placed: JobRecord) -> None:
        self._bus, self._placed, self.asked = bus, placed, 0

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        self.asked += 1
        asked = decode(CordonAsked, message.data)
        entry = await self._bus.bucket(CLUSTERS).get(asked.cluster)
        assert entry is not None
        assert entry.revision == asked.revision
        assert decode(ClusterRecord, entry.value).cordoned
        if self.asked < 3:
            raise Unavailable(what="the cordon", why="not heard yet")
        for placed in self._placed:
            await self._bus.publish(Job(placed.tenant, placed.job), encode(placed))
        return b"", {}


async def is_cordoned(bus: MemoryBus) -> bool | None:
    entry = await bus.bucket(CLUSTERS).get("c1")
    return None if entry is None else decode(ClusterRecord, entry.value).cordoned


async def test_a_job_that_is_placed_while_the_cordon_is_on_its_way_keeps_its_cluster(bus: MemoryBus) -> None:
    placed = record("late", state="placed", epoch=1, placement={"cluster": "c1", "pool": "p", "target": "m"})
    async with bus.serve(SUBJECT, Scheduler(bus, placed).answer):
        with pytest.raises(ClusterInUse, match="late"):
            await Enrolling(bus).remove_cluster("c1", force=False)
    assert await is_cordoned(bus) is False


async def test_a_cluster_is_removed_once_the_scheduler_confirms_its_cordon(bus: MemoryBus) -> None:
    scheduler = Scheduler(bus)
    async with bus.serve(SUBJECT, scheduler.answer):
        await Enrolling(bus).remove_cluster("c1", force=False)
    assert scheduler.asked == 3
    assert await is_cordoned(bus) is None


async def test_without_a_scheduler_a_cluster_is_removed_by_force_alone(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolling, "CORDON_SECONDS", 0.0)
    with pytest.raises(CordonUnconfirmed, match="force"):
        await Enrolling(bus).remove_cluster("c1", force=False)
    assert await is_cordoned(bus) is False
    await Enrolling(bus).remove_cluster("c1", force=True)
    assert await is_cordoned(bus) is None
