"""Agent, entrypoint and step-ctl together, as processes, on a real bus with real accounts."""

from collections.abc import Callable
from pathlib import Path

from shared.facts import Desired
from tests.integration.runner.hub import AgentProcess, Hub, mine
from tests.integration.runner.waiting import until_gone, until_there

Agents = Callable[..., AgentProcess]


async def test_a_job_runs_and_everything_of_it_is_told(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order(
        {"steps": [{"run": "echo hello"}, {"name": "second", "run": "echo $CI; exit 0"}]}, agent.machine
    )
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.exit_code) == ("succeeded", "all_steps_ok", 0), agent.complaints()
    kinds = await hub.kinds(order.job)
    assert kinds[0] == "attempt-accepted"
    assert kinds[-1] == "attempt-ended"
    assert sorted(kinds[1:-1]) == ["attempt-started", "step-ended", "step-ended", "step-started", "step-started"]
    assert (await hub.log(order.job, 1)).data == b"hello\n"
    second = await hub.log(order.job, 2)
    assert second.data == b"true\n"
    assert second.complete
    assert second.times[0][0] == 0
    assert ended.spans.user_seconds > 0


async def test_the_directory_goes_when_all_is_durable_and_not_before(hub: Hub, agents: Agents) -> None:
    agent = agents()
    hub.durable_open = False
    order = await hub.order({"steps": [{"run": "echo hello"}]}, agent.machine)
    await hub.ended(order)
    assert agent.attempt(order).exists()
    hub.durable_open = True
    await until_gone(agent.attempt(order))
    left = list(Path("/sys/fs/cgroup").glob(f"**/overspill-{agent.machine}/{agent.attempt(order).name}"))
    assert left == []


async def test_environment_outputs_and_summary_pass_on(hub: Hub, agents: Agents) -> None:
    agent = agents(SECRET_OF_THE_AGENT="x", PIP_INDEX_URL="http://mirror.invalid/simple", PIP_TOKEN="y")
    steps = [
        {
            "run": 'echo "GREETING=hello you" >> $OVERSPILL_ENV\necho "wheel=a.whl" >> $OVERSPILL_OUTPUT\n'
            'echo "## Fine" >> $OVERSPILL_SUMMARY'
        },
        {"run": "echo $GREETING; env", "env": {"MINE": "1"}},
    ]
    order = await hub.order({"steps": steps, "env": {"JOBWIDE": "2"}}, agent.machine)
    assert (await hub.ended(order)).outcome == "succeeded"
    assert (await hub.until(order.job, "step-ended", 1))["outputs"] == {"wheel": "a.whl"}
    assert (await hub.until(order.job, "step-summarised"))["markdown"] == "## Fine\n"
    lines = (await hub.log(order.job, 2)).data.decode().splitlines()
    names = {line.split("=")[0] for line in lines}
    assert lines[0] == "hello you"
    assert {"MINE", "JOBWIDE", "GREETING", "CI", "HOME", "TMPDIR", "PATH", "PIP_INDEX_URL", "OVERSPILL_JOB_ID"} <= names
    assert not names & {"SECRET_OF_THE_AGENT", "PIP_TOKEN", "OVERSPILL_NATS_CREDS_FILE", "OVERSPILL_AGENT_DATA"}
    home = next(line for line in lines if line.startswith("HOME="))
    assert str(agent.data) in home


async def test_after_a_failure_later_steps_are_skipped_but_for_always(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [{"run": "exit 7"}, {"run": "echo never"}, {"run": "echo cleanup", "if": "always()"}]
    order = await hub.order({"steps": steps}, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "step_failed", 1)
    assert (await hub.until(order.job, "step-ended", 2))["state"] == "skipped"
    assert (await hub.log(order.job, 3)).data == b"cleanup\n"
    assert "exited with 7" in ended.message


async def test_a_background_step_serves_later_ones_and_is_ended(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [
        {
            "name": "server",
            "background": True,
            "ready": "test -s $OVERSPILL_WORKSPACE/up",
            "run": 'echo serving; echo yes > up; trap "echo bye; exit 0" TERM; while :; do sleep 0.05; done',
        },
        {"run": "cat up"},
    ]
    order = await hub.order({"steps": steps}, agent.machine)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", (ended, agent.complaints())
    assert (await hub.until(order.job, "step-ready"))["step"] == 1
    assert (await hub.until(order.job, "step-ended", 1))["state"] == "ended"
    assert (await hub.log(order.job, 2)).data == b"yes\n"
    log = (await hub.log(order.job, 1)).data
    assert log.startswith(b"serving\n")
    assert log.endswith(b"bye\n")


async def test_a_cancelled_job_ends_and_leaves_no_process(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [{"run": "echo begun; sleep 1000"}, {"run": "echo never", "if": "always()"}]
    order = await hub.order({"steps": steps}, agent.machine)
    await hub.until(order.job, "step-started")
    await hub.change(order, desired=Desired.CANCEL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("cancelled", "cancelled", 1)
    await until_gone(agent.attempt(order))
    assert (await hub.until(order.job, "step-ended", 2))["state"] == "skipped"


async def test_a_job_over_its_timeout_ends_without_the_hub_saying_so(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine, timeout_seconds=1)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("timed_out", "timeout")


async def test_a_withdrawn_order_ends_its_attempt(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "sleep 1000"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    await hub.withdraw(order)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "stale")


async def test_a_held_job_begins_no_step_until_it_is_released(hub: Hub, agents: Agents) -> None:
    agent = agents()
    steps = [{"run": "while [ ! -e $OVERSPILL_WORKSPACE/go ]; do sleep 0.02; done"}, {"run": "echo second"}]
    order = await hub.order({"steps": steps}, agent.machine)
    await hub.until(order.job, "step-started", 1)
    held = await hub.change(order, desired=Desired.HOLD)
    await until_there(agent.attempt(order) / "hold")
    (agent.attempt(order) / "work" / "go").touch()
    await hub.until(order.job, "step-ended", 1)
    assert "step-started" not in [kind for kind, fact in await hub.facts(order.job) if fact.get("step") == 2]
    await hub.change(held, desired=Desired.RUN)
    assert (await hub.ended(order)).outcome == "succeeded"


async def test_several_jobs_run_at_once_and_what_has_no_room_waits_or_is_refused(hub: Hub, agents: Agents) -> None:
    agent = agents()
    wait = {"steps": [{"run": "while [ ! -e /proc/$PPID/never ] && [ ! -e go ]; do sleep 0.02; done"}]}
    orders = [await hub.order(wait, agent.machine) for _ in range(4)]
    for order in orders:
        await hub.until(order.job, "step-started")
    waiting = await hub.order(
        {"steps": [{"run": "true"}]}, agent.machine, needs={"cpu_millis": 4000, "memory_bytes": 2**28, "disk_bytes": 1}
    )
    big = await hub.order(wait, agent.machine, needs={"cpu_millis": 200_000, "memory_bytes": 2**28, "disk_bytes": 1})
    refused = await hub.ended(big)
    assert (refused.outcome, refused.reason) == ("error", "refused")
    assert "cpu_millis" in refused.message
    for order in orders:
        (agent.attempt(order) / "work" / "go").touch()
    assert {(await hub.ended(order)).outcome for order in (*orders, waiting)} == {"succeeded"}


async def test_an_image_is_refused_where_steps_are_processes(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "true", "image": "alpine"}]}, agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "refused")
    assert "image" in ended.message


async def test_an_order_to_cancel_what_never_began_is_answered(hub: Hub, agents: Agents) -> None:
    order = await hub.order({"steps": [{"run": "true"}]}, "m1", desired=Desired.CANCEL)
    agents()
    assert (await hub.ended(order)).outcome == "cancelled"
    assert "attempt-accepted" not in await hub.kinds(order.job)


async def test_another_protocol_is_refused_with_why(hub: Hub, agents: Agents) -> None:
    order = await hub.order({"steps": [{"run": "true"}]}, "m1", protocol=9)
    agents()
    assert "protocol 9" in (await hub.ended(order)).message


async def test_what_was_accepted_before_and_is_not_here_does_not_run(hub: Hub, agents: Agents) -> None:
    order = await hub.order({"steps": [{"run": "echo ran"}]}, "m1")
    assert await hub.claimed_by_another(order)
    agents()
    assert (await hub.ended(order)).reason == "runner_lost"
    assert (await hub.log(order.job, 1)).data == b""


async def test_a_step_over_its_memory_is_told_so(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"command": ["python3", "-c", "x = bytearray(400 << 20)"]}]}, agent.machine)
    ended = await hub.ended(order)
    fact = await hub.until(order.job, "step-ended", 1)
    if fact["usage_from"] == "cgroup":
        assert ended.reason == "out_of_memory", (ended, fact)
        assert fact["oom_kills"] == 1


async def test_a_newer_epoch_ends_the_older_attempt(hub: Hub, agents: Agents) -> None:
    agent = agents()
    order = await hub.order({"steps": [{"run": "test $OVERSPILL_EPOCH = 2 || sleep 1000"}]}, agent.machine)
    await hub.until(order.job, "step-started")
    newer = await hub.change(order, epoch=2)
    assert (await hub.until(order.job, "attempt-ended", epoch=1))["reason"] == "stale"
    assert (await hub.until(order.job, "attempt-ended", epoch=2))["reason"] == "all_steps_ok"
    await until_gone(agent.attempt(newer))
    await until_gone(agent.attempt(order))
    assert mine(agent.attempt(order)) == []


async def test_a_cancel_reaches_an_attempt_that_still_waits_for_its_grant(hub: Hub, agents: Agents) -> None:
    hub.grants_open.clear()
    agent = agents()
    order = await hub.order({"steps": [{"run": "echo never"}]}, agent.machine)
    await hub.until(order.job, "attempt-accepted")
    await hub.change(order, desired=Desired.CANCEL)
    assert (await hub.ended(order)).outcome == "cancelled"
    hub.grants_open.set()
    await until_gone(agent.attempt(order))
    assert "step-started" not in await hub.kinds(order.job)


async def test_a_grant_that_is_refused_ends_the_attempt(hub: Hub, agents: Agents) -> None:
    agent = agents()
    job = "unknown"
    order = await hub.order({"steps": [{"run": "true"}]}, "elsewhere", job)
    del hub.specs[job]
    await hub.change(order, target=agent.machine)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", "refused")
