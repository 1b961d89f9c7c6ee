"""A machine that lost power and came back: process numbers belong to others, files were not synced, clocks began anew.
Forged: the attempt is killed with all its processes, and its directory made to look like it was left by a former boot.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from shared.facts import Order
from tests.integration.runner.hub import AgentProcess, Hub, mine
from tests.integration.runner.waiting import until_gone, until_process_gone, until_there

Agents = Callable[..., AgentProcess]
FORMER_BOOT = "00000000-0000-0000-0000-000000000000"
RUNS = {"run": 'echo once >>"$OVERSPILL_WORKSPACE/../../../runs"; echo begun; sleep 1000'}


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of somebody else's that has the number of one of ours from before."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


async def power_loss(agent: AgentProcess, order: Order) -> Path:
    """Everything of the attempt is gone at once; its files stay as they were written."""
    attempt = agent.attempt(order)
    agent.signal(signal.SIGKILL)
    pids = mine(agent.data)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        await until_process_gone(pid)
    forge(attempt)
    return attempt


def forge(attempt: Path) -> None:
    """As if it was laid out before the machine was started."""
    told = orjson.loads((attempt / "attempt.json").read_bytes())
    assert told["boot_id"] != FORMER_BOOT
    (attempt / "attempt.json").write_bytes(orjson.dumps(told | {"boot_id": FORMER_BOOT}))


def start_ticks(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


async def test_a_stranger_with_the_number_of_a_step_is_neither_waited_for_nor_killed(
    hub: Hub, agents: Agents, stranger: "subprocess.Popen[bytes]"
) -> None:
    agent = agents()
    order = await hub.order({"steps": [RUNS, {"run": "echo never"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    attempt = await power_loss(agent, order)
    ticks = start_ticks(stranger.pid)
    (attempt / "steps/001/started").write_text(f"pid {stranger.pid}\npid_start_ticks {ticks}\ntry 1\nunix_ns 1\n")
    (attempt / "step-ctl.lock").write_text(f"{stranger.pid}\n")
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", "runner_lost", 1), agent.complaints()
    assert "the machine was restarted" in ended.message
    assert (agent.data / "runs").read_text() == "once\n"
    await until_gone(attempt)
    assert stranger.poll() is None


async def test_a_step_is_not_begun_in_a_workspace_that_lost_power(hub: Hub, agents: Agents) -> None:
    """What the step before it wrote may be cut, though its exit code was 0."""
    agent = agents()
    hold = {"name": "first", "run": "echo built >result; touch ../done; sleep 1000"}
    order = await hub.order({"steps": [hold, {"run": "touch ../../../second"}]}, agent.machine)
    attempt = agent.attempt(order)
    await hub.until(order.job, "step-started")
    await until_there_empty(attempt / "done")
    await power_loss(agent, order)
    exit_ok = "state exited\ncode 0\nverdict ok\ntries 1\nstarted_unix_ns 1\nended_unix_ns 2\n"
    (attempt / "steps/001/exit").write_text(exit_ok)
    (attempt / "go/002").write_text("ok\n")
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", "runner_lost", 2), agent.complaints()
    assert not (agent.data / "second").exists()


async def ends_untold(agent: AgentProcess, hub: Hub, order: Order) -> Path:
    """The step ends while nobody is there to tell it, then the power goes."""
    await hub.until(order.job, "step-started")
    attempt = agent.attempt(order)
    agent.signal(signal.SIGKILL)
    os.kill(int((attempt / "step-ctl.lock").read_text()), signal.SIGKILL)
    (attempt / "work/go").touch()
    await until_there(attempt / "finish")
    forge(attempt)
    return attempt


GATED = "while [ ! -e go ]; do sleep 0.02; done; "


async def test_a_recorded_end_is_told_after_a_restart_and_a_cut_log_says_so(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": GATED + "seq 1 2000"}]}, agent.machine)
    attempt = await ends_untold(agent, hub, order)
    size = (attempt / "steps/001/log").stat().st_size
    with (attempt / "steps/001/log").open("r+b") as log:
        log.truncate(100)
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0)
    await until_gone(attempt)
    platform = (await hub.log(order.job, 0)).data.decode()
    assert f"Step 1: the last {size - 100} bytes of its log were lost" in platform, agent.complaints()


async def test_an_artifact_that_was_not_stored_before_the_restart_makes_no_success(hub: Hub, agents: Agents) -> None:
    """Its files may be cut, though the exit code was 0. It isn't run again either: the exit code is told."""
    agent = agents()
    artifacts = [{"name": "result", "paths": ["result"]}]
    order = await hub.order({"steps": [{"run": GATED + "echo whole >result"}], "artifacts": artifacts}, agent.machine)
    await ends_untold(agent, hub, order)
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.exit_code) == ("error", "machine_lost", 0), agent.complaints()
    assert "artifact 'result'" in ended.message


async def test_an_empty_exit_record_is_none(hub: Hub, agents: Agents) -> None:
    """A loss of power may leave the name without the content."""
    agent = agents()
    order = await hub.order({"steps": [RUNS]}, agent.machine)
    await hub.until(order.job, "step-started")
    attempt = await power_loss(agent, order)
    (attempt / "steps/001/exit").write_bytes(b"")
    (attempt / "finish").write_text("ok\n")
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "runner_lost")


async def test_an_attempt_whose_files_were_lost_is_told_to_be_lost(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [RUNS]}, agent.machine)
    await hub.until(order.job, "step-started")
    attempt = await power_loss(agent, order)
    for name in ("attempt.json", "order.json"):
        (attempt / name).write_bytes(b"")
    agent.start()
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "runner_lost"), agent.complaints()
    assert (agent.data / "runs").read_text() == "once\n"


async def until_there_empty(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)
