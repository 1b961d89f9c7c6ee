"""What the scheduler does on the bus when answers are lost, copies late and a leader slow. In virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from services.scheduler.following import Follower
from services.scheduler.handlers import Desk
from services.scheduler.lease import Lease
from services.scheduler.model import JobGone, Move, OrdersRead, OrderStands, PurgeJob, ReadBack, RecordSeen, Rules
from services.scheduler.performing import Performer
from services.scheduler.settings import Settings
from services.scheduler.state import State
from services.scheduler.wiring import serve
from shared import flow
from shared.bus import Message
from shared.errors import OutcomeUnknown, Unavailable
from shared.facts import AttemptEnded, CancelRequested, JobRecord
from shared.facts.core import Fact
from shared.lifecycle import JobState, Reason
from shared.requests import DesiredTold
from shared.stream import Stream
from shared.wire import decode, encode
from tests.memory_bus import MemoryBus, MemoryServer
from tests.property.loop import VirtualLoop
from tests.property.platform import LoopClock
from tests.unit.agent.test_agent_policy import order
from tests.unit.scheduler.town import record

KEY = ("t", "j")


class Place:
    """A bus in memory, and a loop whose time passes by itself."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        self.server = MemoryServer(self.clock.now)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def store(self, subject: object, fact: Fact | JobRecord) -> int:
        return self.server.store(str(subject), encode(fact), {}, None, None).seq

    def orders(self) -> int:
        return len(self.server.logs["ORDERS"].messages)


@pytest.fixture
def place():
    place = Place()
    yield place
    place.run(place.loop.shutdown_asyncgens())
    place.loop.close()


# The lease


def test_a_lease_found_after_a_lost_answer_is_not_believed_longer_than_it_stands(place: Place) -> None:
    bus = MemoryBus(place.server)
    lease = Lease(bus, place.clock, "scheduler", "me", 8)

    async def acquire() -> int | None:
        await bus.bucket(flow.LEASE).create("scheduler", lease._value, 8)  # an older try's, that arrived late
        await asyncio.sleep(5)
        place.server.twist.writes.append("lost")
        return await lease.acquire(0)

    assert place.run(acquire()) is not None
    believed = 0
    while lease.holds():
        assert place.server.buckets["LEASE"].stands("scheduler") is not None, f"lapsed {believed} s ago"
        place.run(asyncio.sleep(0.5))
        believed += 1
    assert believed > 8


# Placements and orders that nobody confirmed


def test_a_move_of_which_nobody_knows_is_no_answer_and_one_that_is_found_is(place: Place) -> None:
    seq = place.store(flow.Job(*KEY), record())
    moving = Move(record(message="moved"), seq)
    performer = Performer(MemoryBus(place.server), 1)
    place.server.twist.writes.append("lost")
    with pytest.raises(OutcomeUnknown):
        place.run(performer.perform(moving))
    place.server.twist.writes.append("untold")
    (seen,) = place.run(performer.perform(moving))
    assert isinstance(seen, RecordSeen)
    assert (seen.record.message, seen.seq) == ("moved", seq + 1)


def test_what_is_read_back_of_a_job_are_its_orders_too(place: Place) -> None:
    seq = place.store(flow.Job(*KEY), record())
    stands = place.store(flow.OrderTo("c", "m", *KEY), order("j"))
    place.store(flow.OrderTo("c", "m", "t", "other"), order("other"))
    facts = place.run(Performer(MemoryBus(place.server), 1).perform(ReadBack(KEY, seq)))
    assert facts[1:] == [OrdersRead(KEY, ((order("j"), stands),))]


def test_what_was_purged_meanwhile_stands_no_more_once_read_back() -> None:
    state = State(Rules())
    state.apply(RecordSeen(record(), 1), 0)
    state.apply(OrderStands(order("j"), 1), 0)
    state.apply(OrdersRead(KEY, ()), 0)
    assert state.jobs[KEY].orders == {}


def test_a_purged_job_leaves_no_order_and_no_other_jobs_order_goes_with_it(place: Place) -> None:
    seq = place.store(flow.Job(*KEY), record())
    place.store(flow.OrderTo("c", "m", *KEY), order("j"))
    place.store(flow.OrderTo("c", "m", "t", "other"), order("other"))
    assert place.run(Performer(MemoryBus(place.server), 1).perform(PurgeJob(KEY, seq))) == [JobGone(KEY, seq)]
    assert [m.subject for m in place.server.logs["ORDERS"].messages.values()] == [
        str(flow.OrderTo("c", "m", "t", "other"))
    ]


def test_a_job_is_not_purged_before_its_last_record_is_in_the_history(place: Place) -> None:
    place.store(flow.Job(*KEY), record())
    place.server.twist.unsourced = True
    seq = place.store(flow.Job(*KEY), record(state=JobState.CANCELLED, ended_unix_ns=1))
    performer = Performer(MemoryBus(place.server), 1)
    with pytest.raises(Unavailable, match="not there yet"):
        place.run(performer.perform(PurgeJob(KEY, seq)))
    place.server.twist.unsourced = False
    place.server.source()
    assert place.run(performer.perform(PurgeJob(KEY, seq))) == [JobGone(KEY, seq)]


def test_a_job_whose_record_never_came_into_the_history_goes_in_the_end(place: Place) -> None:
    place.server.twist.unsourced = True
    seq = place.store(flow.Job(*KEY), record(state=JobState.CANCELLED, ended_unix_ns=1))
    gone = place.run(Performer(MemoryBus(place.server), 1).perform(PurgeJob(KEY, seq, though_untold=True)))
    assert gone == [JobGone(KEY, seq)]


# A new instance, and a bus whose copies are late


def loaded(place: Place) -> State:
    state = State(Rules())
    place.run(Follower(MemoryBus(place.server), place.clock, state, lambda: None).load())
    return state


def test_a_cancel_stored_before_its_records_late_copy_is_heard_by_a_new_instance(place: Place) -> None:
    """Also when it is none of the oldest jobs, by whose facts the place to read from is found."""
    place.server.twist.unsourced = True
    for number in range(12):
        place.store(flow.Job("t", f"j{number}"), record(f"j{number}", at=1000.0 + number))
    cancel = CancelRequested(tenant="t", job="j11", by="test", at_unix_ns=0)
    place.store(flow.Evt("t", "j11", 0, CancelRequested.token()), cancel)
    place.server.twist.unsourced = False
    place.server.source()
    assert [key[1] for key, job in loaded(place).jobs.items() if job.cancel_asked] == ["j11"]


def test_an_end_stored_before_its_records_late_copy_is_heard_by_a_new_instance(place: Place) -> None:
    place.server.twist.unsourced = True
    placement = {"cluster": "c", "pool": "p", "target": "m"}
    place.store(flow.Job(*KEY), record(state=JobState.PLACED, epoch=1, placement=placement, placed_unix_ns=1))
    end = AttemptEnded(tenant="t", job="j", epoch=1, at_unix_ns=0, outcome="error", reason=Reason.REFUSED)
    place.store(flow.Evt(*KEY, 1, AttemptEnded.token()), end)
    place.server.twist.unsourced = False
    place.server.source()
    assert loaded(place).jobs[KEY].ended == {1: end}


# Orders of jobs that are no more


class Slow(MemoryBus):
    """After it first saw ORDERS, `meanwhile` happens before it sees anything else."""

    def __init__(self, server: MemoryServer, meanwhile) -> None:
        super().__init__(server)
        self._meanwhile, self.purges, self.lapsed_purges = meanwhile, 0, 0

    async def last_each(self, stream: Stream, *filters: str) -> list:
        found = await super().last_each(stream, *filters)
        if stream is flow.ORDERS and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return found

    async def purge(self, stream: Stream, subject: str) -> int:
        if stream is flow.ORDERS:
            self.purges += 1
            self.lapsed_purges += self._server.buckets["LEASE"].stands("scheduler") is None
        return await super().purge(stream, subject)


def lead(place: Place, bus: MemoryBus, seconds: float) -> None:
    async def leading() -> None:
        led = asyncio.Event()
        serving = asyncio.create_task(serve(Settings(lease_seconds=8), bus, asyncio.Event(), place.clock, led))
        await led.wait()
        await asyncio.sleep(seconds)
        serving.cancel()
        await asyncio.wait([serving])

    place.run(leading())


def test_an_order_of_a_job_that_is_no_more_is_purged_by_a_new_leader(place: Place) -> None:
    place.store(flow.OrderTo("c", "m", *KEY), order("j"))
    lead(place, MemoryBus(place.server), 0)
    assert place.orders() == 0


def test_an_order_whose_job_came_while_a_leader_took_over_is_left_alone(place: Place) -> None:
    place.store(flow.OrderTo("c", "m", *KEY), order("j"))

    async def placed() -> None:
        placement = {"cluster": "c", "pool": "p", "target": "m"}
        about = {
            "state": JobState.PLACED,
            "epoch": 1,
            "placement": placement,
            "placed_unix_ns": 1,
            "deadline_unix_ns": 2**62,
        }
        place.store(flow.Job(*KEY), record(**about))

    slow = Slow(place.server, placed)
    lead(place, slow, 0)
    assert slow.purges == 0
    assert place.orders() == 1


def test_a_leader_whose_lease_lapsed_while_it_took_over_purges_no_order(place: Place) -> None:
    place.store(flow.OrderTo("c", "m", *KEY), order("j"))

    async def lapse() -> None:
        place.loop._seconds += 9  # all of it stood still: no renewal came in between

    slow = Slow(place.server, lapse)
    lead(place, slow, 20)
    assert slow.lapsed_purges == 0
    assert place.orders() == 0  # it was purged by right, under the next lease


# What an attempt asks for itself


def test_an_attempt_is_told_the_newest_order_of_its_job_wherever_it_is_for_and_none_of_others(place: Place) -> None:
    for target, epoch, job in (("m1", 1, "j"), ("kube", 2, "j"), ("m9", 7, "other")):
        place.store(flow.OrderTo("c1", target, "t", job), order(job=job, epoch=epoch, target=target))
    bus = MemoryBus(place.server)
    state = State(Rules())
    desk = Desk(bus, place.clock, state, Follower(bus, place.clock, state, lambda: None))

    def told(job: str) -> DesiredTold:
        data, _ = place.run(desk.desired(Message(str(flow.Ask("t", job, 1, "desired")), b"")))
        return decode(DesiredTold, data)

    newest = told("j").order
    assert newest is not None
    assert (newest.epoch, newest.target) == (2, "kube")
    assert told("gone").order is None
