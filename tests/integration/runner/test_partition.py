"""A machine whose line to the hub is cut while its job goes on: what `on-lost` promises, with everything real."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.facts import JobRecord
from shared.flow import JOBS, Job
from shared.lifecycle import JobState, Reason
from tests.conftest import BusServer
from tests.integration.runner.hub import AgentProcess, mine
from tests.integration.runner.region import Region, region
from tests.integration.runner.waiting import until_gone, until_named, until_process_gone, until_there


@pytest.fixture
async def r(fresh_bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Region]:
    async with region(fresh_bus_server, tmp_path) as made:
        yield made


def writes(shared: Path) -> dict[str, str]:
    """A step, and a daemon of its own, that write into a shared file until they are told to end, deaf to SIGTERM."""
    write = f'echo "$OVERSPILL_EPOCH $(date +%s.%N)" >>{shared}/written; sleep 0.02'
    until = f"[ -e {shared}/over-$OVERSPILL_EPOCH ]"
    loop = f"trap '' TERM; until {until}; do {write}; done"
    return {"run": f"echo begun; touch {shared}/begun-$OVERSPILL_EPOCH; ({loop}) & {loop}; echo over $OVERSPILL_EPOCH"}


def lines(shared: Path) -> list[tuple[int, float]]:
    return [(int(line.split()[0]), float(line.split()[1])) for line in (shared / "written").read_text().splitlines()]


async def seq_of(r: Region, job: str) -> int:
    stored = await r.world.gateway.last(JOBS, Job("t1", job))
    assert stored is not None
    return stored.seq


def processes(agent: AgentProcess, attempt: Path, kind: str) -> list[int]:
    """Of an attempt: its `step-ctl`, `entrypoint`s or `steps`."""
    if kind == "step-ctl":
        return [int((attempt / "step-ctl.lock").read_text())]
    mark = b"\0run\0" if kind == "entrypoint" else b"OVERSPILL_WORKSPACE=" + os.fsencode(attempt)
    name = "cmdline" if kind == "entrypoint" else "environ"
    found = []
    for pid in mine(attempt):
        try:
            if mark in Path(f"/proc/{pid}/{name}").read_bytes():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert found, kind
    return found


async def begun(
    r: Region, shared: Path, **about: object
) -> tuple[str, AgentProcess, "Callable[[], None]", "Callable[[], None]"]:
    """A job that runs on `m1`; a second machine is there since."""
    shared.mkdir()
    agent, line = await r.machine("m1")
    job = await r.submit({"steps": [writes(shared)]}, **about)
    await until_named(shared / "begun-1")
    await r.hub.until(job, "step-started", epoch=1)
    await r.machine("m2")
    return job, agent, line.cut, line.heal


async def test_under_rerun_the_second_attempt_counts_and_the_late_success_of_the_first_changes_nothing(
    r: Region, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    job, agent, cut, heal = await begun(r, shared)
    attempt = r.attempt(agent, job, 1)
    cut()
    record = await r.accepted(job, 2)
    assert record.placement is not None
    assert record.placement.target == "m2"
    await until_named(shared / "begun-2")
    (shared / "over-1").touch()
    await until_there(attempt / "finish")
    assert (attempt / "finish").read_text() == "ok\n"
    before = await seq_of(r, job)
    heal()
    await until_gone(attempt)  # all of the first is told by now
    assert await seq_of(r, job) == before
    (shared / "over-2").touch()
    ended = await r.world.ended(job)
    assert (ended.state, ended.epoch, ended.exit_code) == (JobState.SUCCEEDED, 2, 0)
    assert [past.reason for past in ended.past_attempts] == [Reason.MACHINE_LOST]
    told = [fact for kind, fact in await r.hub.facts(job) if kind == "attempt-ended" and fact["epoch"] == 1]
    assert [(fact["outcome"], fact["reason"]) for fact in told] == [("error", "machine_lost")]
    assert (await r.hub.log(job, 1, epoch=2)).data == b"begun\nover 2\n"
    assert (await r.hub.log(job, 1, epoch=1)).data == b"begun\nover 1\n"


async def test_under_rerun_what_still_runs_when_the_line_is_whole_again_is_stopped(r: Region, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    job, agent, cut, heal = await begun(r, shared)
    attempt = r.attempt(agent, job, 1)
    pids = processes(agent, attempt, "steps")
    cut()
    await r.accepted(job, 2)
    (shared / "over-2").touch()
    ended = await r.world.ended(job)
    assert (ended.state, ended.epoch) == (JobState.SUCCEEDED, 2)
    before = await seq_of(r, job)
    heal()
    for pid in pids:
        await until_process_gone(pid)
    await until_gone(attempt)
    assert mine(attempt) == []
    assert await seq_of(r, job) == before
    assert b"over" not in (await r.hub.log(job, 1, epoch=1)).data


async def test_under_fail_the_job_ends_as_an_error_and_is_not_run_again(r: Region, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    job, agent, cut, heal = await begun(r, shared, on_lost="fail")
    attempt = r.attempt(agent, job, 1)
    cut()
    ended = await r.world.ended(job)
    assert (ended.state, ended.reason, ended.epoch) == (JobState.ERROR, Reason.MACHINE_LOST, 1)
    before = await seq_of(r, job)
    (shared / "over-1").touch()
    await until_there(attempt / "finish")
    heal()
    await until_gone(attempt)
    assert await seq_of(r, job) == before
    assert not (shared / "begun-2").exists()


async def fenced(r: Region, shared: Path, after_cut: Callable[[AgentProcess, Path], None]) -> JobRecord:
    """A fenced job to its end on the second machine, the first one cut off for good."""
    job, agent, cut, _ = await begun(r, shared, on_lost="rerun-fenced")
    attempt = r.attempt(agent, job, 1)
    cut()
    after_cut(agent, attempt)
    await r.accepted(job, 2)
    await until_named(shared / "begun-2")
    await asyncio.sleep(0.5)  # for the first one to be seen, were it still there
    (shared / "over-2").touch()
    ended = await r.world.ended(job)
    assert (ended.state, ended.epoch) == (JobState.SUCCEEDED, 2)
    assert (attempt / "cancel").read_text() == "fenced\n"
    return ended


def assert_never_both(shared: Path) -> None:
    written = lines(shared)
    first = [at for epoch, at in written if epoch == 1]
    second = [at for epoch, at in written if epoch == 2]
    assert len(first) > 10
    assert len(second) > 10
    assert max(first) < min(second)


async def test_under_rerun_fenced_two_attempts_never_run_at_once(r: Region, tmp_path: Path) -> None:
    await fenced(r, tmp_path / "shared", lambda agent, attempt: None)
    assert_never_both(tmp_path / "shared")


async def test_the_fence_holds_without_agent_and_step_ctl(r: Region, tmp_path: Path) -> None:
    def kill(agent: AgentProcess, attempt: Path) -> None:
        agent.signal(signal.SIGKILL)
        for pid in processes(agent, attempt, "step-ctl"):
            os.kill(pid, signal.SIGKILL)

    await fenced(r, tmp_path / "shared", kill)
    assert_never_both(tmp_path / "shared")


async def test_the_fence_outlives_a_restart_of_the_agent(r: Region, tmp_path: Path) -> None:
    def restart(agent: AgentProcess, attempt: Path) -> None:
        agent.signal(signal.SIGKILL)
        agent.start()

    await fenced(r, tmp_path / "shared", restart)
    assert_never_both(tmp_path / "shared")


async def test_a_machine_that_slept_past_the_fence_ends_its_attempt_as_it_wakes(r: Region, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    job, agent, _, _ = await begun(r, shared, on_lost="rerun-fenced")
    attempt = r.attempt(agent, job, 1)
    assert agent.process is not None
    entrypoints, steps = processes(agent, attempt, "entrypoint"), processes(agent, attempt, "steps")
    others = [agent.process.pid, *processes(agent, attempt, "step-ctl")]
    asleep = [*others, *steps, *entrypoints]
    for pid in asleep:
        with contextlib.suppress(ProcessLookupError):  # a step's short-lived child
            os.kill(pid, signal.SIGSTOP)
    await r.accepted(job, 2)
    await until_named(shared / "begun-2")
    # It wakes. The order in which a kernel thaws processes is its own; here the entrypoint comes first.
    for pid in entrypoints:
        os.kill(pid, signal.SIGCONT)
    for pid in steps:
        await until_process_gone(pid)
    for pid in others:
        os.kill(pid, signal.SIGCONT)
    await until_gone(attempt)
    (shared / "over-2").touch()
    ended = await r.world.ended(job)
    assert (ended.state, ended.epoch) == (JobState.SUCCEEDED, 2)
    assert_never_both(shared)
