"""Agent, entrypoint and step-ctl together, as processes, on a real bus with real accounts."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from shared.facts import Desired
from tests.integration.runner.hub import AgentProcess, Hub

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
    assert sorted(kinds) == sorted(
        [
            "attempt-accepted",
            "attempt-started",
            "step-started",
            "step-ended",
            "step-started",
            "step-ended",
            "attempt-ended",
        ]
    )
    assert (await hub.log(order.job, 1)).data == b"hello\n"
    second = await hub.log(order.job, 2)
    assert second.data == b"true\n"
    assert second.complete
    print(await hub.facts(order.job))
