"""A cordon holds once the leader has heard of it and no placement is on its way."""

import pytest

from services.scheduler.cordons import Cordons
from services.scheduler.following import Follower
from services.scheduler.model import Landed, MachineHeard, Move, RecordSeen
from services.scheduler.policy import decide
from services.scheduler.state import State
from shared.bus import Message
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.flow import CLUSTERS
from shared.requests import CordonAsked
from shared.tenancy import ClusterRecord
from shared.wire import encode
from tests.memory_bus import MemoryBus, MemoryServer
from tests.unit.scheduler.town import RULES, machine, record

NOW = 1000.0


class World:
    def __init__(self) -> None:
        self.bus, self.state, self.leads = MemoryBus(MemoryServer()), State(RULES), True
        self.follower = Follower(self.bus, SystemClock(), self.state, lambda: None)
        self.cordons = Cordons(self.state, self.follower, lambda: self.leads)
        self.revision = 0

    async def put(self, *, cordoned: bool) -> None:
        about = ClusterRecord(cluster="c", bus_urls=["nats://bus"], cordoned=cordoned)
        self.revision = await self.bus.bucket(CLUSTERS).put("c", encode(about))

    async def ask(self) -> None:
        asked = CordonAsked(cluster="c", revision=self.revision)
        assert await self.cordons.answer(Message("svc.scheduler.cordoned", encode(asked))) == (b"", {})


@pytest.fixture
async def world() -> World:
    world = World()
    await world.put(cordoned=False)
    await world.follower.load_clusters()
    world.state.apply(MachineHeard(machine(), NOW), NOW)
    return world


async def test_a_cordon_that_was_not_heard_of_does_not_hold(world: World) -> None:
    await world.put(cordoned=True)
    with pytest.raises(Unavailable, match="not heard of it"):
        await world.ask()
    await world.follower.load_clusters()
    await world.ask()


async def test_a_cordon_does_not_hold_before_every_placement_has_landed(world: World) -> None:
    world.state.apply(RecordSeen(record(), 1), NOW)
    (placing,) = decide(world.state, NOW)
    assert isinstance(placing, Move)
    await world.put(cordoned=True)
    await world.follower.load_clusters()
    with pytest.raises(Unavailable, match="on its way"):
        await world.ask()
    world.state.apply(RecordSeen(placing.record, 2), NOW)
    world.state.apply(Landed(placing.key), NOW)
    await world.ask()


async def test_a_cordon_does_not_hold_while_a_placement_may_have_been_stored(world: World) -> None:
    world.state.apply(RecordSeen(record(), 1), NOW)
    (placing,) = decide(world.state, NOW)
    await world.put(cordoned=True)
    await world.follower.load_clusters()
    world.state.apply(Landed(placing.key, failed=True), NOW)
    with pytest.raises(Unavailable, match="on its way"):
        await world.ask()


async def test_who_does_not_lead_confirms_nothing(world: World) -> None:
    await world.put(cordoned=True)
    await world.follower.load_clusters()
    world.leads = False
    with pytest.raises(Unavailable, match="does not lead"):
        await world.ask()
