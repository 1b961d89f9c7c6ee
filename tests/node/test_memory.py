"""A step that uses more memory than its machine has, in a container that it shares with the steps around it."""

from typing import Any

from shared.lifecycle import Reason
from shared.needs import Needs
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess

SMALL = Needs(cpu_millis=500, memory_bytes=64 << 20, disk_bytes=2**28)
HOG = "tail -c 200m /dev/zero"
"""tail keeps what it is to show: 200 MiB."""


def spec_of(second: str) -> dict[str, Any]:
    return {"name": "hungry", "steps": [{"run": "true"}, {"run": second}, {"run": "echo never"}]}


async def test_a_step_killed_for_memory_is_named_with_its_limit(hub: Hub, controller: ControllerProcess) -> None:
    """Where a kill takes the whole container, the controller tells it, from what the container's last word was."""
    order = await hub.order(spec_of(f"exec {HOG} >/dev/null"), "kube", needs=SMALL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", Reason.OUT_OF_MEMORY, 2), ended
    assert "64 MiB" in ended.message
    assert "at its peak" in ended.message


async def test_a_child_killed_for_memory_behind_a_shells_or_is_told_as_memory(
    hub: Hub, controller: ControllerProcess
) -> None:
    order = await hub.order(spec_of(f"{HOG} >/dev/null || exit 4"), "kube", needs=SMALL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", Reason.OUT_OF_MEMORY, 2), ended
    assert "64 MiB" in ended.message


async def test_a_step_s_peak_of_memory_is_its_own_though_it_shares_its_container(
    hub: Hub, controller: ControllerProcess
) -> None:
    order = await hub.order(spec_of("dd if=/dev/zero of=/dev/null bs=30M count=1"), "kube", needs=SMALL)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", ended
    peaks = [int((await hub.until(order.job, "step-ended", step))["peak_memory_bytes"]) for step in (1, 2, 3)]
    assert 30 << 20 <= peaks[1] <= 64 << 20
    assert max(peaks[0], peaks[2]) < 30 << 20
