"""What becomes of an order: the real controller, a real API server, a real bus; the kubelet is a test's."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.facts import Desired
from shared.kube import NAMESPACE, NETWORK_POLICY, POD, SECRET
from shared.lifecycle import Reason
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import TenantWalls
from tests.integration.runner.hub import TENANT, Hub
from tests.integration.runner.waiting import listening
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.kubelet import Kubelet, condition, container, terminated, waiting

SPEC = {"name": "build", "steps": [{"run": "make"}, {"name": "test", "image": "i:2", "run": "make test"}]}
STEPS = ("step-ctl", "step-1", "step-2")


async def test_an_order_becomes_a_pod_and_leaves_nothing_when_it_is_over(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.api.get(SECRET, name, kubelet.namespace)
    assert (await hub.until(order.job, "attempt-accepted"))["machine"] == "kube"
    await succeed(hub, order)
    await kubelet.end(name)
    await kubelet.until_gone(name)
    assert not (await kubelet.api.list(SECRET, kubelet.namespace)).items
    assert (await hub.ended(order)).outcome == "succeeded"
    assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]


NO_IMAGE = waiting("ErrImagePull", 'failed to resolve reference "registry/none:1": not found')
BAD_COMMAND = terminated(128, "StartError", 'exec: "/overspill/bin/entrypoint": exec format error')


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (NO_IMAGE, Reason.IMAGE_PULL, "registry/none:1"),
        (waiting("ImagePullBackOff", "Back-off pulling image"), Reason.IMAGE_PULL, "Back-off"),
        (waiting("InvalidImageName", "couldn't parse image name"), Reason.IMAGE_PULL, "parse"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), Reason.SETUP_FAILED, "not found"),
        (BAD_COMMAND, Reason.SETUP_FAILED, "exec format error"),
    ],
    ids=["image not found", "image pull backs off", "image name", "container configuration", "command"],
)
async def test_a_container_that_can_t_start_ends_the_attempt_with_its_step_s_name(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet, state: dict[str, Any], reason: Reason, words: str
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.tell(name, "Pending", container("step-ctl", {"running": {}}), container("step-2", state))
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", reason, 2)
    assert words in ended.message
    await kubelet.obey(name)
    await kubelet.until_gone(name)


async def test_a_pod_that_no_node_takes_is_handed_back_with_why(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.pod(name)
    why = condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
    await kubelet.tell(name, "Pending", conditions=[why])
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", Reason.UNSCHEDULABLE)
    assert "3 Insufficient cpu" in ended.message
    await kubelet.until_gone(name)


@pytest.mark.parametrize(
    ("phase", "status", "reason"),
    [
        ("Failed", {"reason": "Evicted", "message": "The node was low on resource: memory."}, Reason.EVICTED),
        (
            "Running",
            {"conditions": [condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: drain")]},
            Reason.EVICTED,
        ),
        (
            "Failed",
            {"conditions": [condition("DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node not found")]},
            Reason.MACHINE_LOST,
        ),
        (
            "Running",
            {"conditions": [condition("DisruptionTarget", "True", "DeletionByTaintManager", "deleting")]},
            Reason.MACHINE_LOST,
        ),
        ("Failed", {"reason": "NodeShutdown", "message": "Pod was terminated by node shutdown"}, Reason.MACHINE_LOST),
        ("Failed", {"reason": "DeadlineExceeded", "message": "Pod was active too long"}, Reason.TIMEOUT),
    ],
    ids=["under pressure", "drained", "node deleted", "node not ready", "node shut down", "deadline"],
)
async def test_what_befalls_a_pod_ends_its_attempt_by_its_name(
    hub: Hub,
    controller: ControllerProcess,
    kubelet: Kubelet,
    phase: str,
    status: dict[str, Any],
    reason: Reason,
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.tell(name, phase, *(container(each, {"running": {}}) for each in STEPS), **status)
    assert (await hub.ended(order)).reason is reason
    if phase == "Running":
        await kubelet.obey(name)
    await kubelet.until_gone(name)


async def test_a_step_that_ran_out_of_memory_is_named_with_its_limit(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    killed = container("step-2", {"running": {}}, restartCount=1, lastState=terminated(137, "OOMKilled"))
    await kubelet.tell(name, "Running", container("step-ctl", {"running": {}}), killed)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", Reason.OUT_OF_MEMORY, 2)
    assert "256 MiB" in ended.message
    await kubelet.obey(name)
    await kubelet.until_gone(name)


async def test_of_steps_that_share_a_container_the_one_that_ran_out_of_memory_is_named(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order({"name": "build", "steps": [{"run": each} for each in ("a", "b", "c")]}, "kube")
    name = name_of(order)
    await kubelet.run(name)
    last = terminated(137, "OOMKilled", "step 2\n")
    killed = container("step-1", {"running": {}}, restartCount=1, lastState=last)
    await kubelet.tell(name, "Running", container("step-ctl", {"running": {}}), killed)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", Reason.OUT_OF_MEMORY, 2)
    assert ended.message.startswith("step 2 ran out of memory")
    await kubelet.obey(name)
    await kubelet.until_gone(name)


async def test_a_pod_deleted_by_hand_is_told_and_leaves_nothing(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.api.delete(POD, name, kubelet.namespace, grace_seconds=0)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", Reason.RUNNER_LOST)
    assert "deleted" in ended.message
    await kubelet.until_gone(name)
    assert not (await kubelet.api.list(SECRET, kubelet.namespace)).items


async def test_a_pod_whose_step_ctl_told_nothing_is_an_error_never_a_success(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await kubelet.end(name)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("error", Reason.RUNNER_LOST)
    await kubelet.until_gone(name)


async def test_a_controller_killed_at_any_time_changes_nothing(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    orders = [await hub.order(SPEC, "kube") for _ in range(3)]
    running, ending, deleted = (name_of(order) for order in orders)
    for name in (running, ending, deleted):
        await kubelet.run(name)
    controller.signal(signal.SIGKILL)
    await succeed(hub, orders[1])
    await kubelet.end(ending)
    await kubelet.api.delete(POD, deleted, kubelet.namespace, grace_seconds=0)
    later = await hub.order(SPEC, "kube")
    controller.start()
    await kubelet.run(name_of(later))
    await kubelet.until_gone(ending)
    await kubelet.until_gone(deleted)
    assert (await hub.ended(orders[1])).outcome == "succeeded"
    assert (await hub.ended(orders[2])).reason is Reason.RUNNER_LOST
    await succeed(hub, orders[0])
    await kubelet.end(running)
    await kubelet.until_gone(running)
    assert (await hub.kinds(orders[0].job)).count("attempt-accepted") == 1


@pytest.mark.parametrize("where", ["controller.after-claim-before-pod", "controller.after-secret-before-pod"])
async def test_a_controller_killed_between_claim_and_pod_makes_the_pod_when_it_is_back(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet, where: str
) -> None:
    dying = controllers("one", dies_at=where)
    order = await hub.order(SPEC, "kube")
    await hub.until(order.job, "attempt-accepted")
    assert dying.process is not None
    assert await asyncio.to_thread(dying.process.wait, 60) == -signal.SIGKILL
    dying.process = None
    controllers("one")
    name = name_of(order)
    await kubelet.run(name)
    await succeed(hub, order)
    await kubelet.end(name)
    await kubelet.until_gone(name)
    assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]


async def test_the_same_order_again_makes_nothing_twice(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    uid = (await kubelet.pod(name))["metadata"]["uid"]
    for _ in range(3):
        await hub.put(order)
    await succeed(hub, order)
    await kubelet.end(name)
    await kubelet.until_gone(name)
    for _ in range(3):
        await hub.put(order)
    marker = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(marker))
    assert uid not in [pod["metadata"]["uid"] for pod in (await kubelet.api.list(POD, kubelet.namespace)).items]
    assert [item["metadata"]["name"] for item in (await kubelet.api.list(POD, kubelet.namespace)).items] == [
        name_of(marker)
    ]
    assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]


async def test_the_next_attempt_ends_the_one_before(hub: Hub, controller: ControllerProcess, kubelet: Kubelet) -> None:
    first = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(first))
    second = await hub.change(first, epoch=2)
    await kubelet.run(name_of(second))
    await kubelet.obey(name_of(first))
    await kubelet.until_gone(name_of(first))
    await kubelet.pod(name_of(second))


async def test_a_cancel_that_step_ctl_does_not_heed_deletes_the_pod(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    await hub.change(order, desired=Desired.CANCEL)
    await kubelet.obey(name)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("cancelled", Reason.CANCELLED)
    await kubelet.until_gone(name)


async def test_an_order_cancelled_before_it_began_is_told_and_makes_no_pod(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    await hub.change(order, desired=Desired.CANCEL)
    controllers()
    assert (await hub.ended(order)).outcome == "cancelled"
    assert await hub.kinds(order.job) == ["attempt-ended"]


async def test_one_controller_leads_and_the_next_takes_over_when_it_dies(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    one = controllers("one")
    first = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(first))
    two = controllers("two")
    one.signal(signal.SIGKILL)
    second = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(second))
    for order in (first, second):
        await succeed(hub, order)
        await kubelet.end(name_of(order))
        await kubelet.until_gone(name_of(order))
        assert await hub.kinds(order.job) == ["attempt-accepted", "attempt-ended"]
    assert "leading" in two.complaints()


async def test_a_hole_made_while_no_controller_was_there_is_mended_by_the_next(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    await kubelet.run(name_of(order))
    controller.signal(signal.SIGKILL)
    await kubelet.api.delete(NETWORK_POLICY, "overspill-builds", kubelet.namespace)
    controller.start()
    await kubelet.until_there(NETWORK_POLICY, "overspill-builds")


async def test_a_hole_in_a_tenant_s_walls_is_mended(hub: Hub, controller: ControllerProcess, kubelet: Kubelet) -> None:
    order = await hub.order(SPEC, "kube")
    await kubelet.pod(name_of(order))
    await kubelet.api.get(NETWORK_POLICY, "overspill-builds", kubelet.namespace)
    await kubelet.api.delete(NETWORK_POLICY, "overspill-builds", kubelet.namespace)
    await kubelet.until_there(NETWORK_POLICY, "overspill-builds")


async def test_a_namespace_that_somebody_else_made_is_neither_used_nor_changed(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet, namespace: str
) -> None:
    assert hub.pod is not None
    walls = TenantWalls(tenant=TENANT, namespaces=[namespace])
    hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
    before = (await kubelet.api.get(NAMESPACE, namespace))["metadata"]["resourceVersion"]
    ended = await hub.ended(await hub.order(SPEC, "kube"))
    assert (ended.outcome, ended.reason) == ("error", Reason.REFUSED)
    assert namespace in ended.message
    assert (await kubelet.api.get(NAMESPACE, namespace))["metadata"]["resourceVersion"] == before
    assert not (await kubelet.api.list(NETWORK_POLICY, namespace)).items


def test_a_controller_listens_nowhere(controller: ControllerProcess) -> None:
    """A cluster behind a firewall needs outbound connections alone."""
    assert controller.process is not None
    while "leading" not in controller.complaints():
        assert controller.process.poll() is None
        time.sleep(0.05)
    assert not listening(controller.process.pid)
