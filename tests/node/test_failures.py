"""What goes wrong in a pod on a real node is called by its name, never a success, and nothing runs twice."""

import os
import signal

from shared.kube import POD
from shared.lifecycle import Reason
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node.groups import processes

LONG = {"name": "long", "steps": [{"run": "echo one"}, {"run": "echo begun; sleep 8"}, {"run": "echo done"}]}


async def test_what_steps_did_while_step_ctl_was_dead_is_told_by_the_one_that_comes_back(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(LONG, "kube")
    await hub.until(order.job, "step-started", 2)
    (step_ctl,) = processes(b"runner.step_ctl")
    os.kill(step_ctl, signal.SIGKILL)
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", ended
    logs = [await hub.log(order.job, step) for step in (1, 2, 3)]
    assert [(log.data, log.complete) for log in logs] == [(b"one\n", True), (b"begun\n", True), (b"done\n", True)]
    await pods.until_gone(name_of(order))


async def test_a_container_killed_while_its_step_ran_loses_that_step_by_name_and_runs_nothing_again(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(LONG, "kube")
    await hub.until(order.job, "step-started", 2)
    (entrypoint,) = processes(b"/overspill/bin/entrypoint")
    os.kill(entrypoint, signal.SIGKILL)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", Reason.RUNNER_LOST, 2), ended
    assert (await hub.kinds(order.job)).count("step-started") == 2
    await pods.until_gone(name_of(order))


async def test_an_image_that_can_t_be_pulled_ends_the_job_at_once(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order({"name": "no image", "steps": [{"image": "localhost:1/none:1", "run": "true"}]}, "kube")
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("error", Reason.IMAGE_PULL, 1), ended
    assert "localhost:1/none:1" in ended.message
    await pods.until_gone(name_of(order))


async def test_a_pod_deleted_by_hand_tells_what_its_steps_wrote(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order({"name": "long", "steps": [{"run": "echo begun; sleep 600"}]}, "kube")
    await hub.until(order.job, "step-started")
    await pods.api.delete(POD, name_of(order), pods.namespace)
    ended = await hub.ended(order)
    assert ended.outcome == "error", ended
    assert ended.reason in (Reason.MACHINE_LOST, Reason.RUNNER_LOST)
    await pods.until_gone(name_of(order))
    assert (await hub.log(order.job, 1)).data == b"begun\n"


async def test_a_job_past_its_timeout_is_ended_in_its_pod(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order({"name": "long", "steps": [{"run": "sleep 600"}]}, "kube", timeout_seconds=5)
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("timed_out", Reason.TIMEOUT), ended
    await pods.until_gone(name_of(order))
