"""A job in a real pod, from its order to its verdict and log."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.adapters.kube_api import KubeServer
from shared.facts import Desired
from shared.ids import random_id
from shared.kube import NAMESPACE, POD, SECRET
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import TenantWalls
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, TENANT, Hub
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge
from tests.node.node import Node

THREE = {
    "name": "three steps",
    "steps": [
        {"run": "echo one >file; id -u"},
        {"run": "cat file; echo 'length=3' >>\"$OVERSPILL_OUTPUT\""},
        {"run": "test -f file && echo done"},
    ],
}


@pytest.fixture
async def hub(fresh_bus_server: BusServer, kube: KubeServer, tmp_path: Path) -> AsyncIterator[Hub]:
    server = fresh_bus_server
    namespace = f"overspill-{random_id()[:12]}"
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, tmp_path) as hub,
    ):
        walls = TenantWalls(tenant=TENANT, namespaces=[namespace])
        hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
        hub.routes["kube"] = edge.as_pods_reach(server.url)
        yield hub
    await kube.delete(NAMESPACE, namespace)


@pytest.fixture
def controller(node: Node, hub: Hub, namespace: str) -> Iterator[ControllerProcess]:
    one = edge.controller(node, hub, namespace).start()
    yield one
    if one.process is not None:
        one.signal(signal.SIGKILL)


@pytest.fixture
def pods(kube: KubeServer, hub: Hub) -> Kubelet:
    """To wait with; the real kubelet does the rest."""
    assert hub.pod is not None
    return Kubelet(kube, hub.pod.namespace)


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
    await pods.until_gone(name_of(order))
    assert not (await pods.api.list(SECRET, pods.namespace)).items


async def test_a_job_that_is_cancelled_ends_its_steps_and_its_pod(
    hub: Hub, controller: ControllerProcess, pods: Kubelet
) -> None:
    spec = {"name": "long", "steps": [{"run": "trap 'echo told to end; exit 3' TERM; echo up; sleep 600 & wait"}]}
    order = await hub.order(spec, "kube")
    await hub.until(order.job, "step-started")
    await hub.change(order, desired=Desired.CANCEL)
    ended = await hub.ended(order)
    assert ended.outcome == "cancelled", (ended, controller.complaints()[-3000:])
    assert b"told to end" in (await hub.log(order.job, 1)).data
    await pods.until_gone(name_of(order))
    assert not (await pods.api.list(POD, pods.namespace)).items
