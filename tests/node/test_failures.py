"""What goes wrong in a pod on a real node is called by its name, never a success, and nothing runs twice."""

import json
import os
import signal
from pathlib import Path

from deploy.docker.oci import Image
from shared.kube import POD
from shared.lifecycle import Reason
from tests.integration.runner.hub import Hub
from tests.integration.runner.waiting import until_process_gone
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge
from tests.node.groups import processes
from tests.node.node import Node

WAIT = "echo begun; while [ ! -e over ]; do sleep 0.02; done"
LONG = {"name": "long", "steps": [{"run": "echo one"}, {"run": WAIT}, {"run": "echo done"}]}


async def test_what_steps_did_while_step_ctl_was_dead_is_told_by_the_one_that_comes_back(
    node: Node, hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(LONG, "kube")
    await hub.until(order.job, "step-started", 2)
    (step_ctl,) = processes(b"runner.step_ctl")
    os.kill(step_ctl, signal.SIGKILL)
    (edge.volume(node, await pods.pod(name_of(order))) / "work" / "over").touch()
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
    assert ended.reason in (Reason.EVICTED, Reason.RUNNER_LOST)
    await pods.until_gone(name_of(order))
    assert (await hub.log(order.job, 1)).data == b"begun\n"


async def test_a_step_whose_image_has_no_shell_is_named_with_what_is_missing(
    node: Node, hub: Hub, controller: ControllerProcess, pods: Kubelet, tmp_path: Path
) -> None:
    (tmp_path / "image").mkdir()
    node.runtime.add(Image("localhost/no-shell:1", (tmp_path / "image",)))
    steps = [{"run": "true"}, {"image": "localhost/no-shell:1", "run": "true"}, {"run": "echo never"}]
    order = await hub.order({"name": "no shell", "steps": steps}, "kube")
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason, ended.step) == ("failed", Reason.STEP_FAILED, 2), ended
    assert "sh" in ended.message
    assert "the step's image" in ended.message
    assert (await hub.until(order.job, "step-ended", 2))["exit_code"] == 127
    await pods.until_gone(name_of(order))


async def test_a_container_whose_command_can_t_be_run_ends_the_job_at_once(
    node: Node, hub: Hub, namespace: str, pods: Kubelet, tmp_path: Path
) -> None:
    """As an entrypoint for other processors is."""
    foreign = tmp_path / "entrypoint"
    foreign.write_bytes(b"no program")
    settings = {"ARCHITECTURE": "amd64", "ENTRYPOINTS": json.dumps({"amd64": str(foreign)})}
    controller = edge.controller(node, hub, namespace, **settings).start()
    try:
        order = await hub.order({"name": "foreign", "steps": [{"run": "true"}]}, "kube")
        ended = await hub.ended(order)
        assert (ended.outcome, ended.reason, ended.step) == ("error", Reason.SETUP_FAILED, 1), ended
        assert "its container ended with 1" in ended.message
        await pods.until_gone(name_of(order))
    finally:
        controller.kill()


async def test_a_pod_past_its_deadline_is_a_job_that_timed_out_though_its_step_ctl_is_stuck(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    """The deadline of its manifest is two minutes past the job's timeout; here it comes sooner."""
    order = await hub.order({"name": "long", "steps": [{"run": "echo begun; sleep 600"}]}, "kube")
    await hub.until(order.job, "step-started")
    (step_ctl,), (entrypoint,) = processes(b"runner.step_ctl"), processes(b"/overspill/bin/entrypoint")
    os.kill(step_ctl, signal.SIGSTOP)
    await pods.api.merge(POD, name_of(order), pods.namespace, {"spec": {"activeDeadlineSeconds": 1}})
    await until_process_gone(entrypoint)
    os.kill(step_ctl, signal.SIGKILL)  # as the kubelet would, twenty seconds later
    ended = await hub.ended(order)
    assert (ended.outcome, ended.reason) == ("timed_out", Reason.TIMEOUT), ended
    assert "deadline" in ended.message
    await pods.until_gone(name_of(order))
