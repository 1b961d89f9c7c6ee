"""Cancelled before a machine has begun it: in a cluster that is the controller's to tell."""

import pytest

from shared.facts import Desired
from tests.behaviour.machine import MachinePlace, MachineRun
from tests.behaviour.test_cancel import CANCELLED, end_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_before_the_grant_has_come(machine: MachinePlace) -> None:
    machine.hub.grants_open.clear()
    try:
        run = await machine.submit({"steps": [{"run": "echo never"}]})
        await machine.hub.until(run.order.job, "attempt-accepted")
        await run.cancel()
        assert end_of(await run.ended()) == CANCELLED
    finally:
        machine.hub.grants_open.set()
    assert await run.left() == []
    assert "step-started" not in await machine.hub.kinds(run.order.job)


async def test_before_the_machine_has_heard_of_it(machine: MachinePlace) -> None:
    order = await machine.hub.order({"steps": [{"run": "echo never"}]}, machine.agent.machine, desired=Desired.CANCEL)
    run = MachineRun(machine.hub, order, machine.agent)
    assert end_of(await run.ended()) == CANCELLED
    assert "attempt-accepted" not in await machine.hub.kinds(order.job)
