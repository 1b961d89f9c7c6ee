"""A job's life on a real bus, with an edge that does what the test says."""

import asyncio

from services.scheduler.settings import Settings
from shared.facts import Desired
from shared.flow import JOBS, ORDERS, Job, OrderTo, Spec
from shared.lifecycle import JobState, Reason
from tests.integration.scheduler.world import FAST, LIMIT_SECONDS, World, for_ever, good


async def test_a_job_goes_from_queued_to_succeeded_and_into_history(w: World) -> None:
    async with w.scheduler(), w.alive(await w.edge(good)):
        job = await w.submit()
        record = await w.ended(job)
        assert record.state is JobState.SUCCEEDED
        assert (record.epoch, record.exit_code, record.reason) == (1, 0, Reason.ALL_STEPS_OK)
        assert (await w.done(job)) == record


async def test_a_job_without_machines_says_why_and_starts_when_one_joins(w: World) -> None:
    async with w.scheduler():
        job = await w.submit()
        waiting = await w.until(job, lambda record: record.waiting_for is not None)
        assert waiting.waiting_for == "no_machines"
        told = await w.why(job)
        assert (told.state, told.code, told.position) == ("queued", "no_machines", 0)
        assert "start an agent" in told.detail
        async with w.alive(await w.edge(good)):
            assert (await w.ended(job)).state is JobState.SUCCEEDED


async def test_an_attempt_nobody_accepts_is_tried_on_another_machine(w: World) -> None:
    deaf = await w.edge(good, "a-deaf", accepts=False)
    async with w.scheduler(), w.alive(deaf), w.alive(await w.edge(good, "b-good", cpus=8)):
        await asyncio.wait_for(_both_known(w), LIMIT_SECONDS)
        record = await w.ended(await w.submit())
        assert record.state is JobState.SUCCEEDED
        assert [past.reason for past in record.past_attempts] == [Reason.NOT_ACCEPTED]
        assert record.placement is not None
        assert record.placement.target == "b-good"


async def _both_known(w: World) -> None:
    job = await w.submit(runs_on=["nowhere"])
    while len((await w.why(job)).candidates) < 2:
        await asyncio.sleep(0.05)


async def test_a_running_job_is_cancelled(w: World) -> None:
    edge = await w.edge(for_ever)
    async with w.scheduler(), w.alive(edge):
        job = await w.submit()
        await w.until(job, lambda record: record.state is JobState.PLACED)
        await w.cancel(job)
        record = await w.ended(job)
        assert (record.state, record.reason) == (JobState.CANCELLED, Reason.CANCELLED)


async def test_a_job_past_its_timeout_is_ended(w: World) -> None:
    async with w.scheduler(), w.alive(await w.edge(for_ever)):
        record = await w.ended(await w.submit(timeout_seconds=0.5))
        assert (record.state, record.reason) == (JobState.TIMED_OUT, Reason.TIMEOUT)


async def test_a_job_whose_machine_falls_silent_runs_again_elsewhere(w: World) -> None:
    first = await w.edge(for_ever, "a-first")
    async with w.scheduler():
        async with w.alive(first):
            job = await w.submit()
            async with asyncio.timeout(LIMIT_SECONDS):
                while not first.running:
                    first.changed.clear()
                    await first.changed.wait()
        async with w.alive(await w.edge(good, "b-second")):
            record = await w.ended(job)
            assert (record.state, record.epoch) == (JobState.SUCCEEDED, 2)
            assert [past.reason for past in record.past_attempts] == [Reason.MACHINE_LOST]


async def test_orders_are_purged_and_after_a_while_the_job_leaves_the_stream(w: World) -> None:
    settings = Settings(**(FAST.model_dump() | {"keep_seconds": 0.3}))
    async with w.scheduler(settings), w.alive(await w.edge(good)):
        job = await w.submit()
        await w.done(job)
        async with asyncio.timeout(LIMIT_SECONDS):
            while await w.gateway.last(JOBS, Job(w.tenant, job)) or await w.gateway.last(JOBS, Spec(w.tenant, job)):
                await asyncio.sleep(0.05)
        async with w.server.connect(w.server.identity.credential(_scheduler())) as bus:
            assert await bus.last_each(ORDERS, OrderTo.filter(tenant=w.tenant, job=job)) == []
        assert (await w.why(job)).code == "all_steps_ok"


def _scheduler():
    from shared.parties import SCHEDULER

    return SCHEDULER


async def test_an_agent_that_asks_learns_every_order(w: World) -> None:
    edge = await w.edge(for_ever, cpus=2)
    async with w.scheduler(), w.alive(edge):
        jobs = {await w.submit() for _ in range(3)}
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(orders := await edge.ask()) < 2:
                await asyncio.sleep(0.05)
        assert len(orders) == 2, "a third does not fit"
        assert all(order.desired is Desired.RUN for order in orders)
        assert {order.job for order in orders} < jobs
