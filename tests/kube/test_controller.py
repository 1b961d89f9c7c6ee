"""What becomes of an order, whatever happens to its pod: the real controller, a real API server, a real bus."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.kube_api import KubeServer
from shared.facts import AttemptEnded, Order
from shared.flow import Evt
from shared.ids import random_id
from shared.kube import SECRET
from shared.lifecycle import Reason
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import TenantWalls
from shared.wire import encode
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, TENANT, Hub
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet

SPEC = {"name": "build", "steps": [{"run": "make"}, {"name": "test", "run": "make test"}]}
NEEDS: dict[str, Any] = {}


@pytest.fixture
async def hub(fresh_bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Hub]:
    server = fresh_bus_server
    namespace = f"overspill-{random_id()[:12]}"
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, tmp_path) as hub,
    ):
        walls = TenantWalls(tenant=TENANT, namespaces=[namespace])
        hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
        yield hub


@pytest.fixture
def kubelet(kube: KubeServer, hub: Hub) -> Kubelet:
    assert hub.pod is not None
    return Kubelet(kube, hub.pod.namespace)


@pytest.fixture
def controllers(
    hub: Hub, api_server: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., ControllerProcess]]:
    made: list[ControllerProcess] = []

    def make(identity: str = "one", **environment: str) -> ControllerProcess:
        one = ControllerProcess(hub, api_server.kubeconfig, namespace, tmp_path / identity, identity, environment)
        made.append(one)
        return one.start()

    yield make
    for one in made:
        if one.process is not None:
            one.signal(signal.SIGKILL)


@pytest.fixture
def controller(controllers: Callable[..., ControllerProcess]) -> ControllerProcess:
    return controllers()


async def succeed(hub: Hub, order: Order) -> None:
    """As the pod's step-ctl tells it."""
    ended = AttemptEnded(
        tenant=order.tenant,
        job=order.job,
        epoch=order.epoch,
        at_unix_ns=1,
        outcome="succeeded",
        reason=Reason.ALL_STEPS_OK,
        exit_code=0,
    )
    await hub.bus.publish(Evt(order.tenant, order.job, order.epoch, ended.token()), encode(ended), expect_seq=0)


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
