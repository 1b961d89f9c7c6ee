"""Who is killed for memory, where the place gives each attempt a control group of its own."""

import os
from pathlib import Path

import pytest

from tests.behaviour.machine import MachinePlace

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOG = "python3 -c 'x = bytearray(200 << 20)'"
needs_memory_limit = pytest.mark.skipif(
    os.geteuid() != 0 or not any(map(Path.exists, map(Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cgroup.procs")))),
    reason="needs root and control groups",
)


@needs_memory_limit
async def test_who_is_killed_for_memory_is_named_for_it(machine: MachinePlace) -> None:
    run = await machine.submit_small({"steps": [{"run": "true"}, {"run": f"exec {HOG}"}, {"run": "echo never"}]})
    ended = await run.ended()
    step = await run.step(2)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", "out_of_memory", 2)
    assert (step.signal, step.killed_for, step.oom_kills) == (9, "memory", 1)
    assert "of 64 MiB allowed" in ended.message
    assert await run.left() == []


@needs_memory_limit
async def test_a_failure_behind_a_shells_or_after_a_kill_for_memory_is_named_for_memory(machine: MachinePlace) -> None:
    run = await machine.submit_small({"steps": [{"run": "true"}, {"run": f"{HOG} || {{ echo cleaning up; exit 4; }}"}]})
    ended = await run.ended()
    step = await run.step(2)
    assert (ended.outcome, ended.reason, ended.step, ended.exit_code) == ("failed", "out_of_memory", 2, 4)
    assert (step.state, step.exit_code, step.killed_for, step.oom_kills) == ("exited", 4, "memory", 1)
    assert "exited with 4" in ended.message
    assert b"cleaning up" in await run.log(2)


@needs_memory_limit
async def test_a_kill_for_memory_the_step_forgave_is_told_and_fails_nothing(machine: MachinePlace) -> None:
    run = await machine.submit_small({"steps": [{"run": f"{HOG} || true"}, {"run": "true"}]})
    ended = await run.ended()
    first, second = await run.step(1), await run.step(2)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0)
    assert (first.verdict, first.killed_for, first.oom_kills) == ("ok", "none", 1)
    assert first.message.startswith("Out of memory: 1 of the step's processes killed")
    assert (second.oom_kills, second.message) == (0, "")
