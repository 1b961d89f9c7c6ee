"""A job in a real pod, from its order to its verdict and log."""

from shared.kube import SECRET
from shared.pods import PodTemplate
from tests.integration.runner.hub import Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node.node import NAME

THREE = {
    "name": "three steps",
    "steps": [
        {"run": "echo one >file; id -u"},
        {"run": "cat file; echo 'length=3' >>\"$OVERSPILL_OUTPUT\""},
        {"run": "test -f file && echo done"},
    ],
}


async def test_three_steps_run_in_turn_and_are_told_to_the_last_byte(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    order = await hub.order(THREE, "kube")
    ended = await hub.ended(order)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0), (ended, controller.complaints()[-3000:])
    logs = [await hub.log(order.job, step) for step in (1, 2, 3)]
    assert [log.complete for log in logs] == [True, True, True]
    assert [log.data for log in logs][1:] == [b"one\n", b"done\n"]
    assert await hub.kinds(order.job) == [
        "attempt-accepted",
        "attempt-started",
        *("step-started", "step-ended") * 3,
        "attempt-ended",
    ]
    assert (await hub.until(order.job, "attempt-started"))["node"] == NAME
    await pods.until_gone(name_of(order))
    assert not (await pods.api.list(SECRET, pods.namespace)).items


async def test_a_job_runs_where_an_init_container_brings_the_entrypoint(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    assert hub.pod is not None
    hub.pod = hub.pod.model_copy(update={"template": PodTemplate(entrypoint_from="init-container")})
    order = await hub.order(THREE, "kube")
    made = await pods.pod(name_of(order))
    assert "configMap" not in str(made["spec"]["volumes"])
    ended = await hub.ended(order)
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0), (ended, controller.complaints()[-3000:])
    await pods.until_gone(name_of(order))
