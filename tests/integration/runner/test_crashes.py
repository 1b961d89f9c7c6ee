"""Killed at the worst instant and started again: nothing runs twice, nothing is lost, nothing is left."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from runner.entrypoint.build import chaos_binary
from shared.facts import Desired
from shared.flow import EVT, Beat, Evt
from shared.parties import Party
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, HUB, AgentProcess, Hub, mine
from tests.integration.runner.waiting import listening, until_gone, until_process_gone, until_there

Agents = Callable[..., AgentProcess]

SLOW = {"run": "echo once >> $OVERSPILL_WORKSPACE/runs; echo first; while [ ! -e go ]; do sleep 0.02; done; cat runs"}


def process_of(attempt: Path, step: int) -> tuple[int, int]:
    """Number and start of the step's command, which still runs."""
    started = dict(line.split() for line in (attempt / "steps" / f"{step:03d}" / "started").read_text().splitlines())
    pid, ticks = int(started["pid"]), int(started["pid_start_ticks"])
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == str(ticks)
    return pid, ticks


def step_ctl_of(attempt: Path) -> int:
    return int((attempt / "step-ctl.lock").read_text())


async def test_a_killed_step_ctl_is_followed_by_one_that_tells_all_once(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [SLOW, {"run": "echo second"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    os.kill(step_ctl_of(agent.attempt(order)), signal.SIGKILL)
    (agent.attempt(order) / "work" / "go").touch()
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", agent.complaints()
    log = await hub.log(order.job, 1)
    assert (log.data, log.complete) == (b"first\nonce\n", True)
    kinds = await hub.kinds(order.job)
    assert kinds.count("step-started") == 2
    assert kinds.count("step-ended") == 2
    await until_gone(agent.attempt(order))


async def test_an_agent_and_its_step_ctl_listen_nowhere(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [SLOW]}, agent.machine)
    await hub.until(order.job, "step-started")
    assert agent.process is not None
    assert not [*listening(agent.process.pid), *listening(step_ctl_of(agent.attempt(order)))]
    with socket.create_server(("127.0.0.1", 0)):
        assert listening(os.getpid())
    (agent.attempt(order) / "work" / "go").touch()
    assert (await hub.ended(order)).outcome == "succeeded", agent.complaints()


async def test_a_killed_agent_finds_its_attempts_again_twice_in_a_row(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [SLOW, {"run": "echo second"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    for _ in range(2):
        agent.signal(signal.SIGKILL)
        agent.start()
    (agent.attempt(order) / "work" / "go").touch()
    assert (await hub.ended(order)).outcome == "succeeded", agent.complaints()
    assert (await hub.log(order.job, 1)).data == b"first\nonce\n"
    await until_gone(agent.attempt(order))
    assert (await hub.kinds(order.job)).count("attempt-accepted") == 1


async def test_agent_and_step_ctl_killed_twice_in_a_row_disturb_no_step_and_its_exit_code_is_told(
    hub: Hub, agents: Agents
) -> None:
    agent = agents()
    server = {"background": True, "ready": "true", "run": "echo once >> server-runs; exec sleep 1000"}
    order = await hub.order({"steps": [server, SLOW | {"run": f"{SLOW['run']}; exit 3"}]}, agent.machine)
    await hub.until(order.job, "step-started", 2)
    attempt = agent.attempt(order)
    before = {step: process_of(attempt, step) for step in (1, 2)}
    for _ in range(2):
        agent.signal(signal.SIGKILL)
        os.kill(step_ctl_of(attempt), signal.SIGKILL)
        (attempt / "step-ctl.lock").unlink()
        agent.start()
        await until_there(attempt / "step-ctl.lock")
        assert {step: process_of(attempt, step) for step in (1, 2)} == before
    (attempt / "work" / "go").touch()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.step, ended.exit_code) == ("failed", 2, 3), agent.complaints()
    assert (await hub.log(order.job, 2)).data == b"first\nonce\n"
    await until_gone(attempt)
    kinds = await hub.kinds(order.job)
    assert [kinds.count(kind) for kind in ("attempt-accepted", "step-started", "step-ended")] == [1, 2, 2]
    for pid, _ in before.values():
        await until_process_gone(pid)


async def test_a_step_that_ended_while_nobody_watched_is_told_and_the_next_one_ran_meanwhile(
    hub: Hub, agents: Agents
) -> None:
    agent = agents()
    hub.durable_open = False
    order = await hub.order({"steps": [SLOW, {"run": "echo second"}, {"run": "exit 4"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    attempt = agent.attempt(order)
    for _ in range(2):
        agent.signal(signal.SIGKILL)
        os.kill(step_ctl_of(attempt), signal.SIGKILL)
        (attempt / "step-ctl.lock").unlink()
        if not (attempt / "finish").exists():
            (attempt / "work" / "go").touch()
            await until_there(attempt / "finish")
        agent.start()
        await until_there(attempt / "step-ctl.lock")
    ended = await hub.ended(order)
    assert (ended.outcome, ended.step, ended.exit_code) == ("failed", 3, 4), agent.complaints()
    hub.durable_open = True
    assert (await hub.log(order.job, 2)).data == b"second\n"
    await until_gone(attempt)


async def test_agent_and_step_ctl_killed_while_the_build_ends_tell_how_it_ended(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [SLOW]}, agent.machine)
    await hub.until(order.job, "step-started")
    attempt = agent.attempt(order)
    agent.signal(signal.SIGKILL)
    os.kill(step_ctl_of(attempt), signal.SIGKILL)
    (attempt / "work" / "go").touch()
    await until_there(attempt / "finish")
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0)
    assert (await hub.log(order.job, 1)).data == b"first\nonce\n"
    await until_gone(attempt)


async def test_all_killed_after_the_verdict_still_deliver_the_log(hub: Hub, agents: Agents) -> None:
    agent = agents()
    hub.durable_open = False
    order = await hub.order({"steps": [{"run": "echo kept"}]}, agent.machine)
    await hub.ended(order)
    attempt = agent.attempt(order)
    agent.signal(signal.SIGKILL)
    os.kill(step_ctl_of(attempt), signal.SIGKILL)
    hub.durable_open = True
    agent.start()
    await until_gone(attempt)
    assert (await hub.kinds(order.job)).count("attempt-ended") == 1
    assert (await hub.log(order.job, 1)).data == b"kept\n"


async def test_a_killed_entrypoint_is_an_error_of_ours_and_leaves_nothing(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [
        {"name": "bg", "background": True, "run": "sleep 1000"},
        {"run": "echo begun; sleep 1000 & sleep 1000"},
        {"run": "echo never"},
    ]
    order = await hub.order({"steps": steps}, agent.machine)
    await hub.until(order.job, "step-started", 2)
    workspace = os.fsencode(agent.attempt(order) / "work")
    steps_of = [pid for pid in mine(agent.attempt(order)) if workspace in Path(f"/proc/{pid}/environ").read_bytes()]
    assert steps_of
    entrypoint = next(
        pid for pid in mine(agent.attempt(order)) if b"\x00002\x00" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(entrypoint, signal.SIGKILL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", "runner_lost", 2), ended
    for pid in steps_of:
        await until_process_gone(pid)
    await until_gone(agent.attempt(order))
    assert (await hub.log(order.job, 2)).data == b"begun\n"


@pytest.mark.parametrize(
    "point",
    [
        "entrypoint.after-turn-before-start:1",
        "entrypoint.after-exit-before-go:1",
        "entrypoint.after-last-exit-before-finish:1",
    ],
)
@pytest.mark.parametrize("order_of_steps", ["background first", "background last"])
async def test_an_entrypoint_killed_between_two_steps_is_started_again_and_nothing_runs_twice(
    hub: Hub, agents: Agents, tmp_path: Path, point: str, order_of_steps: str
) -> None:
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    armed = {"OVERSPILL_CRASH_AT": point, "OVERSPILL_CRASH_LEDGER": str(ledger)}
    agent = agents(OVERSPILL_ENTRYPOINT=str(chaos_binary()), **armed)
    server = {"background": True, "run": "exec sleep 1000"}
    foreground = [{"run": "echo one >> runs"}, {"run": "echo two >> runs; cat runs"}]
    steps = [server, *foreground] if order_of_steps == "background first" else [*foreground, server]
    order = await hub.order({"steps": steps}, agent.machine)
    ended = await hub.ended(order)
    assert [fired.name for fired in ledger.iterdir()] == [point.removesuffix(":1")]
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0), agent.complaints()
    assert (await hub.log(order.job, steps.index(foreground[1]) + 1)).data == b"one\ntwo\n"
    await until_gone(agent.attempt(order))


async def test_a_bus_outage_delays_but_ends_no_build(hub: Hub, server: BusServer, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [SLOW, {"run": "seq 1 1000"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    server.stop()
    (agent.attempt(order) / "work" / "go").touch()
    await until_there(agent.attempt(order) / "finish")
    server.start()
    assert (await hub.ended(order)).outcome == "succeeded"
    assert (await hub.log(order.job, 1)).data == b"first\nonce\n"
    assert (await hub.log(order.job, 2)).data == b"".join(b"%d\n" % n for n in range(1, 1001))


async def test_a_fenced_attempt_ends_itself_without_the_hub(hub: Hub, server: BusServer, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine, on_lost="rerun-fenced", fence_seconds=2)
    await hub.until(order.job, "step-started")
    server.stop()
    await until_there(agent.attempt(order) / "finish")
    assert (agent.attempt(order) / "cancel").read_text() == "fenced\n"
    server.start()
    assert (await hub.ended(order)).reason == "machine_lost"


async def test_sigterm_drains_then_evicts_what_runs(hub: Hub, server: BusServer, agents: Agents) -> None:
    agent = agents(OVERSPILL_AGENT_DRAIN_SECONDS="0.2")
    order = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    party = Party("ear", "hub", publishes=(), subscribes=(Beat.filter(),), reads=HUB.reads)
    async with (
        server.connect(server.identity.credential(party)) as ear,
        ear.listen(Beat.filter(cluster=CLUSTER)) as beats,
    ):
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        ended = await hub.ended(order)
        assert (ended.outcome, ended.reason) == ("error", "evicted")
        said = b""
        async for beat in beats:
            said += beat.data
            if b'"leaving":true' in beat.data:
                break
        assert b'"draining":true' in said
    await until_process_gone(agent.process.pid)
    assert agent.process.wait() == 0
    agent.process = None
    assert mine(agent.data) == []


async def test_with_die_with_parent_a_killed_agent_leaves_no_process(hub: Hub, agents: Agents) -> None:
    agent = agents(OVERSPILL_AGENT_DIE_WITH_PARENT="true")
    steps = [{"background": True, "run": "sleep 1000"}, {"run": "sleep 1000 & trap '' TERM; sleep 1000"}]
    order = await hub.order({"steps": steps}, agent.machine)
    await hub.until(order.job, "step-started", 2)
    assert agent.process is not None
    others = [pid for pid in mine(agent.data) if pid != agent.process.pid]
    assert len(others) >= 5
    agent.signal(signal.SIGKILL)
    for pid in others:
        await until_process_gone(pid)
    assert mine(agent.data) == []
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "evicted"), ended


async def test_two_agents_do_not_share_a_data_directory(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "true"}]}, agent.machine)
    await hub.ended(order)
    second = AgentProcess(hub, agent.data, agent.machine)
    second.start()
    assert second.process is not None
    assert second.process.wait(60) == 3
    assert "OVERSPILL_AGENT_DATA" in agent.complaints()


async def test_a_step_ctl_that_can_not_be_brought_up_ends_the_attempt_by_the_agents_word(
    hub: Hub, agents: Agents
) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    teller = step_ctl_of(agent.attempt(order))
    whole = (agent.attempt(order) / "attempt.json").read_bytes()
    (agent.attempt(order) / "attempt.json").write_text("{")
    os.kill(teller, signal.SIGKILL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "setup_failed")
    await until_there(agent.attempt(order) / "finish")
    # It is tried again for the log's sake.
    (agent.attempt(order) / "attempt.json").write_bytes(whole)
    assert agent.attempt(order).exists()


async def test_a_fenced_attempt_from_before_a_start_of_the_machine_goes_no_further(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [SLOW, {"run": "echo never"}]
    order = await hub.order({"steps": steps}, agent.machine, on_lost="rerun-fenced", fence_seconds=600)
    attempt = agent.attempt(order)
    await hub.until(order.job, "step-started", 1)
    await hub.change(order, desired=Desired.HOLD)
    await until_there(attempt / "hold")
    (attempt / "work" / "go").touch()
    await hub.until(order.job, "step-ended", 1)
    agent.signal(signal.SIGKILL)
    for pid in {*mine(attempt), step_ctl_of(attempt)}:
        os.kill(pid, signal.SIGKILL)
    before = orjson.loads((attempt / "attempt.json").read_bytes())
    (attempt / "attempt.json").write_bytes(orjson.dumps(before | {"boot_id": "another"}))
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "machine_lost"), agent.complaints()
    await until_gone(attempt)
    begun = Evt.filter(tenant=order.tenant, job=order.job, kind="step-started")
    assert len([message async for message in hub.bus.read(EVT, begun, from_seq=1)]) == 1
