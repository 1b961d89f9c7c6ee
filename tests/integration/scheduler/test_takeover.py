"""Two schedulers, one leads. The leader dies in the ways leaders die."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from shared.adapters.nats_bus import NatsBus
from shared.errors import Unavailable
from shared.facts import JobRecord, Order
from shared.flow import EVT, JOBS, ORDERS, TENANTS, Evt, Job, OrderTo
from shared.lifecycle import JobState
from shared.parties import SCHEDULER
from shared.tenancy import TenantLimits, TenantRecord
from shared.wire import decode, encode
from tests.integration.scheduler.world import LIMIT_SECONDS, FakeEdge, World, for_ever, good, running

ACTIVE_LIMIT = 5


@contextmanager
def process(w: World, home: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    credential = home / "scheduler.creds"
    credential.write_text(w.server.identity.credential(SCHEDULER).to_file_text())
    environment = os.environ | {
        "OVERSPILL_NATS_URL": w.server.url,
        "OVERSPILL_NATS_CREDS_FILE": str(credential),
        "OVERSPILL_SCHEDULER_ACCEPT_SECONDS": "2",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    with (home / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "services.scheduler"],
            env=environment,
            stderr=log,
            stdout=log,
            start_new_session=True,
        )
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()
            started.wait(10)


def leads(log: Path) -> bool:
    return log.exists() and '"event":"leading"' in log.read_text()


async def until_leads(log: Path) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not leads(log):
            await asyncio.sleep(0.02)


async def test_a_standby_leads_after_its_leaders_kill_and_nothing_is_placed_twice(w: World, tmp_path: Path) -> None:
    """How soon: `python -m tests.chaos.takeover` measures it."""
    edge = await w.edge(good, cpus=64)
    async with w.alive(edge):
        with process(w, tmp_path, "first") as first:
            await until_leads(tmp_path / "first.log")
            with process(w, tmp_path, "second"):
                before = [await w.submit() for _ in range(20)]
                await w.ended(before[0])
                first.send_signal(signal.SIGKILL)
                after = [await w.submit() for _ in range(20)]
                await until_leads(tmp_path / "second.log")
                records = [await w.ended(job) for job in [*before, *after]]
        assert {record.state for record in records} == {JobState.SUCCEEDED}
        assert {record.epoch for record in records} == {1}, "no job was placed twice"
        terms = [record.term for record in records]
        assert max(terms) > min(terms)


async def test_leaders_killed_in_a_row_under_load_keep_the_limit_and_place_no_attempt_twice(
    w: World, tmp_path: Path
) -> None:
    await w.gateway.bucket(TENANTS).put(
        w.tenant, encode(TenantRecord(tenant=w.tenant, limits=TenantLimits(max_active_jobs=ACTIVE_LIMIT)))
    )
    edge = await w.edge(for_ever, cpus=64)
    async with w.alive(edge), running(_end_attempts(edge)), AsyncExitStack() as standing:
        names = iter(f"s{number}" for number in range(9))
        alive: dict[str, subprocess.Popen[bytes]] = {}

        def another() -> None:
            name = next(names)
            alive[name] = standing.enter_context(process(w, tmp_path, name))

        another()
        await until_leads(tmp_path / "s0.log")
        jobs = [await w.submit() for _ in range(30)]
        endless = [await w.submit(runs_on=["nowhere"]) for _ in range(5)]
        for job in (*endless, *jobs[25:]):
            await w.cancel(job)
        for _ in range(3):
            another()
            alive.pop(await _who_leads(tmp_path, alive)).send_signal(signal.SIGKILL)
            jobs += [await w.submit() for _ in range(5)]
        records = [await w.done(job) for job in jobs]
        cancelled = [await w.done(job) for job in endless]
    assert {record.state for record in records[:25] + records[30:]} == {JobState.SUCCEEDED}
    assert {record.state for record in cancelled} == {JobState.CANCELLED}
    assert {record.state for record in records[25:30]} <= {JobState.CANCELLED, JobState.SUCCEEDED}
    assert {record.epoch for record in records} <= {0, 1}, "no job was placed twice"
    assert await _most_placed_at_once(w) <= ACTIVE_LIMIT
    accepted = [
        message.subject async for message in w.gateway.read(EVT, Evt.filter(kind="attempt-accepted"), from_seq=1)
    ]
    assert len(accepted) == len(set(accepted))


async def _end_attempts(edge: FakeEdge) -> None:
    """Each runs for a moment, so that leaders die while jobs are in every state."""
    number = 0
    while True:
        for order in list(edge.running.values()):
            number += 1
            if number % 3:
                await edge.end(order, *good(order))
        await asyncio.sleep(0.05)


async def _who_leads(home: Path, names: Iterable[str]) -> str:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not (leading := [name for name in names if leads(home / f"{name}.log")]):
            await asyncio.sleep(0.02)
    return leading[0]


async def _most_placed_at_once(w: World) -> int:
    """By the order in which the records were written."""
    placed: set[str] = set()
    most = 0
    async for message in w.gateway.read(JOBS, Job.filter(), from_seq=1):
        record = decode(JobRecord, message.data)
        (placed.add if record.state is JobState.PLACED else placed.discard)(record.job)
        most = max(most, len(placed))
    return most


async def test_orders_that_a_leader_left_unwritten_are_given_by_the_next(w: World) -> None:
    edge = await w.edge(for_ever)
    async with w.alive(edge), w.server.connect(w.server.identity.credential(SCHEDULER)) as bus:
        async with w.scheduler():
            job = await w.submit()
            placed = await w.until(job, lambda record: record.state is JobState.PLACED)
        # As if the first leader had died between the record and the order.
        await bus.purge(ORDERS, OrderTo.filter(tenant=w.tenant, job=job))
        async with w.scheduler():
            async with asyncio.timeout(LIMIT_SECONDS):
                async for message in bus.tail(ORDERS, OrderTo.filter(tenant=w.tenant, job=job), from_seq=1):
                    order = Order.model_validate_json(message.data)
                    break
        assert (order.epoch, order.target) == (1, edge.machine)
        assert order.term > placed.term


async def test_an_ended_attempt_is_judged_by_whoever_leads_next(w: World) -> None:
    edge = await w.edge(for_ever)
    async with w.alive(edge):
        async with w.scheduler():
            job = await w.submit()
            async with asyncio.timeout(LIMIT_SECONDS):
                while not edge.running:
                    edge.changed.clear()
                    await edge.changed.wait()
        for order in list(edge.running.values()):
            await edge.end(order, *good(order))
        async with w.scheduler():
            assert (await w.ended(job)).state is JobState.SUCCEEDED
            assert (await w.done(job)).state is JobState.SUCCEEDED


async def test_while_one_leads_the_other_only_answers(w: World) -> None:
    async with w.scheduler() as first, w.scheduler() as second:
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.wait(
                [asyncio.create_task(first.wait()), asyncio.create_task(second.wait())], return_when="FIRST_COMPLETED"
            )
        assert first.is_set() != second.is_set()
        job = await w.submit(runs_on=["gpu"])
        assert {(await w.why(job)).state for _ in range(10)} == {"queued"}


async def test_the_bus_starts_anew_and_everything_goes_on(w: World) -> None:
    edge = await w.edge(good)
    async with w.scheduler(), w.alive(edge):
        assert (await w.ended(await w.submit())).state is JobState.SUCCEEDED
        await asyncio.to_thread(w.server.restart)
        async with asyncio.timeout(LIMIT_SECONDS):
            while not w.gateway.connected:
                await asyncio.sleep(0.05)
            assert (await w.ended(await w.submit())).state is JobState.SUCCEEDED


async def test_an_order_that_stands_again_after_an_outage_is_purged_again(w: World) -> None:
    edge = await w.edge(good)
    async with w.scheduler(), w.alive(edge), w.server.connect(w.server.identity.credential(SCHEDULER)) as bus:
        ended = await w.submit()
        assert (await w.done(ended)).state is JobState.SUCCEEDED
        order = next(order for order in edge.seen if order.job == ended)
        subject = OrderTo(order.cluster, order.target, order.tenant, order.job)
        await _until_no_order(bus, subject)
        # As a server that was killed may have it.
        await bus.publish(subject, encode(order))
        await asyncio.to_thread(w.server.restart)
        await _until_no_order(bus, subject)


async def _until_no_order(bus: NatsBus, subject: OrderTo) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            with contextlib.suppress(Unavailable):
                if await bus.last(ORDERS, subject) is None:
                    return
            await asyncio.sleep(0.05)


async def test_records_of_no_sense_are_buried_and_hurt_nobody(w: World) -> None:
    async with w.scheduler(), w.alive(await w.edge(good)):
        await w.gateway.publish(Job(w.tenant, "broken"), b"{", expect_seq=0)
        assert (await w.ended(await w.submit())).state is JobState.SUCCEEDED
    assert await w.gateway.last(JOBS, Job(w.tenant, "broken")) is not None
    assert await w.gateway.last(EVT, Evt(w.tenant, "broken", 1, "attempt-accepted")) is None
