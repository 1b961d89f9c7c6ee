"""Cancels as they come from people, through a real scheduler: in states that a machine alone does not have."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.cancelling import Cancelling
from shared.clock import SystemClock
from shared.facts import JobRecord
from shared.flow import EVT, Evt
from shared.lifecycle import JobState, Reason
from shared.principal import Principal
from tests.conftest import BusServer
from tests.integration.runner.hub import mine
from tests.integration.runner.region import Region, region
from tests.integration.runner.waiting import until_gone

ANN, BOB = (Principal(tenant="t1", subject=f"jwt:{name}") for name in ("ann", "bob"))
NEVER = {"steps": [{"run": "echo never"}]}
LONG = {"steps": [{"run": "echo on; sleep 1000 & wait"}]}


@pytest.fixture
async def r(fresh_bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Region]:
    async with region(fresh_bus_server, tmp_path) as made:
        yield made


def cancelling(r: Region) -> Cancelling:
    return Cancelling(r.world.gateway, SystemClock())


def end_of(record: JobRecord) -> tuple[JobState, Reason | None]:
    return record.state, record.reason


CANCELLED = (JobState.CANCELLED, Reason.CANCELLED)


async def test_a_queued_job_is_over_at_once_and_never_runs(r: Region) -> None:
    job = await r.submit(NEVER)
    await cancelling(r).request(ANN, job)
    ended = await r.world.ended(job)
    assert (end_of(ended), ended.epoch) == (CANCELLED, 0)
    await r.machine("m1")
    after = await r.submit({"steps": [{"run": "true"}]})
    assert (await r.world.ended(after)).state is JobState.SUCCEEDED
    assert await r.hub.kinds(job) == ["job-cancel-requested"]


async def test_two_people_cancel_a_running_job_at_once_and_again_after_its_end(r: Region) -> None:
    agent, _ = await r.machine("m1")
    job = await r.submit(LONG)
    await r.hub.until(job, "step-started")
    await asyncio.gather(*(cancelling(r).request(who, job) for who in (ANN, BOB, ANN)))
    ended = await r.world.ended(job)
    assert end_of(ended) == CANCELLED
    assert (await cancelling(r).request(BOB, job)).state is JobState.CANCELLED
    await until_gone(r.attempt(agent, job, 1))
    assert mine(r.attempt(agent, job, 1)) == []
    kinds = await r.hub.kinds(job)
    assert (kinds.count("job-cancel-requested"), kinds.count("attempt-ended")) == (1, 1)
    assert await r.world.ended(job) == ended


async def test_a_job_that_is_placed_on_a_machine_which_has_not_accepted_it(r: Region) -> None:
    agent, _ = await r.machine("m1")
    before = await r.submit({"steps": [{"run": "true"}]})
    await r.world.ended(before)
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    job = await r.submit(NEVER)
    await r.world.until(job, lambda record: record.state is JobState.PLACED)
    await cancelling(r).request(ANN, job)
    await r.world.until(job, lambda record: record.cancel_requested)
    agent.process.send_signal(signal.SIGCONT)
    assert end_of(await r.world.ended(job)) == CANCELLED
    assert "step-started" not in await r.hub.kinds(job)


async def test_a_cancel_just_before_the_bus_goes_away_is_kept(r: Region, fresh_bus_server: BusServer) -> None:
    agent, _ = await r.machine("m1")
    job = await r.submit(LONG)
    await r.hub.until(job, "step-started")
    await cancelling(r).request(ANN, job)
    fresh_bus_server.restart()
    assert end_of(await r.world.ended(job)) == CANCELLED
    await until_gone(r.attempt(agent, job, 1))
    assert mine(r.attempt(agent, job, 1)) == []
    asked = await r.world.gateway.last(EVT, Evt("t1", job, 0, "job-cancel-requested"))
    assert asked is not None


async def test_a_job_on_a_machine_that_can_not_be_reached_is_cancelled_and_not_run_elsewhere(r: Region) -> None:
    agent, line = await r.machine("m1")
    job = await r.submit(LONG)
    await r.hub.until(job, "step-started")
    await r.machine("m2")
    line.cut()
    await cancelling(r).request(ANN, job)
    ended = await r.world.ended(job)
    assert (end_of(ended), ended.epoch) == (CANCELLED, 1)
    assert "isn't known" in ended.message
    line.heal()
    await until_gone(r.attempt(agent, job, 1))
    assert mine(r.attempt(agent, job, 1)) == []
