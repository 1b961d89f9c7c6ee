"""What runs, runs on: whoever of those around it dies. A verdict needs none of them."""

import signal
from typing import Any

import pytest

from shared.kube import NODE, SECRET
from shared.lifecycle import Reason
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge, groups
from tests.node.node import NAME, Node

WAIT = "echo begun; while [ ! -e over ]; do sleep 0.02; done"
SLOW: dict[str, Any] = {"name": "slow", "steps": [{"run": WAIT}, {"run": "echo done"}]}
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


async def nothing_is_left(pods: Kubelet, name: str) -> None:
    await pods.until_gone(name)
    assert not (await pods.api.list(SECRET, pods.namespace)).items


async def test_a_job_whose_controller_is_killed_ends_as_if_it_lived(
    node: Node, hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(SLOW, "kube")
    await hub.until(order.job, "step-started")
    work = edge.volume(node, await pods.pod(name_of(order))) / "work"
    controller.signal(signal.SIGKILL)
    (work / "over").touch()
    controller.start()
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", ended
    assert (await hub.log(order.job, 2)).data == b"done\n"
    await nothing_is_left(pods, name_of(order))
    assert (await hub.kinds(order.job)).count("step-started") == 2


@pytest.mark.parametrize("program", ["kubelet", "kube-apiserver"])
async def test_a_job_ends_while_a_part_of_kubernetes_is_dead(
    program: str, node: Node, hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(SLOW, "kube")
    await hub.until(order.job, "step-started")
    work = edge.volume(node, await pods.pod(name_of(order))) / "work"
    node.plane.kill(program)
    try:
        (work / "over").touch()
        ended = await hub.ended(order)
        assert ended.outcome == "succeeded", ended
        assert (await hub.log(order.job, 2)).data == b"done\n"
    finally:
        node.plane.restart(program)
        node.plane.until_ready()
        node.plane.until("kubelet", node.is_ready)
    await nothing_is_left(pods, name_of(order))


async def test_a_job_whose_node_is_gone_is_told_as_lost_and_runs_again_as_another_attempt(
    node: Node, hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    """kubelet and containers are dead, and somebody says so, which spares the minutes that Kubernetes waits."""
    spec = {"name": "slow", "steps": [{"run": "echo begun; [ $OVERSPILL_EPOCH != 1 ] || sleep 600"}]}
    order = await hub.order(spec, "kube")
    await hub.until(order.job, "step-started")
    node.plane.kill("kubelet")
    try:
        groups.kill()
        await pods.api.merge(NODE, NAME, None, {"spec": {"taints": [OUT_OF_SERVICE]}})
        ended = await hub.ended(order)
        assert (ended.outcome, ended.reason) == ("error", Reason.MACHINE_LOST), ended
        assert "the node is gone" in ended.message
    finally:
        await pods.api.merge(NODE, NAME, None, {"spec": {"taints": None}})
        node.plane.restart("kubelet")
        node.plane.until("kubelet", node.is_ready)
    await nothing_is_left(pods, name_of(order))
    again = await hub.change(order, epoch=2)
    told = await hub.until(order.job, "attempt-ended", epoch=2)
    assert (told["outcome"], told["epoch"]) == ("succeeded", 2)
    assert (await hub.log(order.job, 1, epoch=2)).data == b"begun\n"
    await nothing_is_left(pods, name_of(again))
