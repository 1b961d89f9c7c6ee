"""A cancellation that comes together with an error that is handled."""

import asyncio
from typing import cast

import nats.errors
import pytest
from nats.aio.client import Client

from services.scheduler.following import Follower
from services.scheduler.leading import Leader
from services.scheduler.lease import Lease, LeaseLost
from services.scheduler.settings import Settings
from services.scheduler.state import State
from shared.adapters.nats_api import round_trip
from shared.cancelling import apart, heed_cancel
from shared.clock import SystemClock
from tests.memory_bus.bus import MemoryBus
from tests.memory_bus.server import MemoryServer


async def fails() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(0))
        tasks.create_task(raises())


async def raises() -> None:
    await asyncio.sleep(0)
    raise LeaseLost(name="scheduler")


async def test_a_group_that_failed_apart_is_no_cancellation_of_ours() -> None:
    for _ in range(3):
        with pytest.raises(ExceptionGroup):
            await apart(fails())
        heed_cancel()


class LostOnCancel:
    """A lease that turns out to be lost in the moment in which its keeper is cancelled."""

    def __init__(self) -> None:
        self.terms = 0
        self.kept = asyncio.Event()

    async def acquire(self, above_term: int) -> int:
        self.terms += 1
        assert self.terms == 1, "it stood for the lease again after it was cancelled"
        return above_term + 1

    async def keep(self) -> None:
        self.kept.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise LeaseLost(name="scheduler")

    async def release(self) -> None:
        pass

    def holds(self) -> bool:
        return True


async def ends_after_cancel(task: "asyncio.Task[None]") -> None:
    """It was cancelled once; it must not need a second time."""
    done, _ = await asyncio.wait({task}, timeout=30)
    assert done, "it goes on after it was cancelled"
    assert task.cancelled()


async def test_a_leader_that_is_cancelled_as_its_lease_is_lost_ends() -> None:
    bus, clock, settings = MemoryBus(MemoryServer()), SystemClock(), Settings()
    state, changed, lease = State(settings.rules()), asyncio.Event(), LostOnCancel()
    follower = Follower(bus, clock, state, changed.set)
    leader = Leader(settings, bus, clock, state, follower, cast("Lease", lease), changed)
    standing = asyncio.create_task(leader.stand(asyncio.Event()))
    await lease.kept.wait()
    standing.cancel()
    await ends_after_cancel(standing)


async def test_a_leader_that_is_cancelled_as_its_bus_comes_back_ends() -> None:
    bus, clock, settings = MemoryBus(MemoryServer()), SystemClock(), Settings()
    state, changed, lease = State(settings.rules()), asyncio.Event(), Lease(bus, SystemClock(), "scheduler", "me", 60)
    leader = Leader(settings, bus, clock, state, Follower(bus, clock, state, changed.set), lease, changed)
    leading = asyncio.Event()
    standing = asyncio.create_task(leader.stand(leading))
    await leading.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    leader._came_back.set()
    # The group has its failure, and is still ending its other tasks.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    standing.cancel()
    await ends_after_cancel(standing)


class Unserved:
    """A client whose request is answered by nobody, in the moment in which the asking task is cancelled."""

    async def request(self, *_: object, **__: object) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(nats.errors.NoRespondersError())
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.wait_for(answer, 5)


async def test_a_request_that_fails_as_it_is_cancelled_ends_as_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        await round_trip(cast("Client", Unserved()), "a", b"", 5)
