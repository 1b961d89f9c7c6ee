"""What runs, runs on: whoever of those around it dies. A verdict needs none of them."""

import signal
from typing import Any

import pytest

from shared.kube import SECRET, Kind
from shared.lifecycle import Reason
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node.node import Node

SLOW: dict[str, Any] = {"name": "slow", "steps": [{"run": "echo begun; sleep 8"}, {"run": "echo done"}]}


async def nothing_is_left(pods: Kubelet, name: str) -> None:
    await pods.until_gone(name)
    assert not (await pods.api.list(SECRET, pods.namespace)).items


async def test_a_job_whose_controller_is_killed_ends_as_if_it_lived(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(SLOW, "kube")
    await hub.until(order.job, "step-started")
    controller.signal(signal.SIGKILL)
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
    node.plane.kill(program)
    try:
        ended = await hub.ended(order)
        assert ended.outcome == "succeeded", ended
        assert (await hub.log(order.job, 2)).data == b"done\n"
    finally:
        node.plane.restart(program)
        node.plane.until_ready()
        node.plane.until("kubelet", node.is_ready)
    await nothing_is_left(pods, name_of(order))


async def test_a_job_that_is_evicted_by_a_drain_is_no_success_and_leaves_nothing(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order({"name": "long", "steps": [{"run": "echo begun; sleep 600"}]}, "kube")
    await hub.until(order.job, "step-started")
    name = name_of(order)
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": pods.namespace},
    }
    await pods.api.create(Kind("v1", "Eviction", f"pods/{name}/eviction"), body)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", Reason.EVICTED), ended
    await nothing_is_left(pods, name)
    assert (await hub.log(order.job, 1)).data == b"begun\n"  # it may follow the verdict, and never goes with the pod
