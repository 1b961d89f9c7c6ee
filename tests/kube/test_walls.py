"""Walls that are not wanted any more go: the real controller with the chart's rights alone, on a real API server."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.adapters.kube_api import KubeServer
from shared.bus import Headers, Message
from shared.errors import NotFound
from shared.flow import ORDERS, Edge, OrderTo
from shared.kube import NAMESPACE, Resource
from shared.requests import WallsAsked, WallsStanding, WallsTold
from shared.walls import TenantWalls
from shared.wire import decode, encode
from tests.conftest import BusServer
from tests.integration.runner.hub import TENANT, Hub
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of, succeed
from tests.kube.helm import CHARTS, helm, resources
from tests.kube.kubelet import PATIENCE_SECONDS, Kubelet
from tests.kube.test_charts import EDGE, KINDS

SPEC = {"name": "build", "steps": [{"run": "make"}]}
LEASE = "edge"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
async def controller(
    plane: ControlPlane, fresh_bus_server: BusServer, tmp_path: Path
) -> AsyncIterator[ControllerProcess]:
    made = helm(
        *("template", "edge", str(CHARTS / "overspill-edge"), "--namespace", LEASE), "--kube-version", "1.34.0", *EDGE
    )
    async with KubeServer.connect(plane.kubeconfig) as admin:
        await admin.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LEASE}})
        for resource in resources(made):
            if resource["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
                await admin.apply(KINDS[resource["kind"]], resource)
    rights = plane.account_kubeconfig(LEASE, "edge-controller")
    one = ControllerProcess(fresh_bus_server, rights, LEASE, tmp_path / "one").start()
    yield one
    one.signal(signal.SIGKILL)


class Hubs:
    """What the hub says of tenants' walls."""

    def __init__(self) -> None:
        self.told = WallsTold()
        self._heard: list[WallsStanding] = []
        self._is_heard = asyncio.Condition()

    async def answer(self, message: Message) -> tuple[bytes, Headers]:
        async with self._is_heard:
            self._heard += decode(WallsAsked, message.data).standing
            self._is_heard.notify_all()
        return encode(self.told), {}

    async def until_heard_twice(self) -> None:
        """Of the tenant: so it had its turn with what was told."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._is_heard:
            await self._is_heard.wait_for(lambda: sum(each.tenant == TENANT for each in self._heard) >= 2)


async def test_a_deleted_tenant_s_namespace_goes_once_nothing_of_it_runs_and_no_other_does(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    said = Hubs()
    async with hub.bus.serve(Edge.filter(op="walls"), said.answer):
        said.told = WallsTold(gone=[TENANT])
        await said.until_heard_twice()
        assert (await kubelet.api.get(NAMESPACE, kubelet.namespace))["metadata"].get("deletionTimestamp") is None
        await succeed(hub, order)
        await kubelet.end(name)
        await kubelet.until_gone(name)
        await hub.bus.purge(ORDERS, OrderTo.filter(tenant=TENANT))
        await kubelet.until(kubelet.namespace, _goes, NAMESPACE)
    assert await _stays(kubelet.api, LEASE)


async def test_a_namespace_taken_off_a_tenant_s_record_goes_and_its_others_stay(
    hub: Hub, controller: ControllerProcess, kubelet: Kubelet
) -> None:
    assert hub.pod is not None
    both = TenantWalls(tenant=TENANT, namespaces=[kubelet.namespace, "taken-off"])
    hub.pod = hub.pod.model_copy(update={"walls": both})
    order = await hub.order(SPEC, "kube")
    name = name_of(order)
    await kubelet.run(name)
    assert await _stays(kubelet.api, "taken-off")
    said = Hubs()
    said.told = WallsTold(keep=[TenantWalls(tenant=TENANT, namespaces=[kubelet.namespace])])
    async with hub.bus.serve(Edge.filter(op="walls"), said.answer):
        await said.until_heard_twice()
        assert await _stays(kubelet.api, "taken-off")  # a job of the tenant runs
        await succeed(hub, order)
        await kubelet.end(name)
        await kubelet.until_gone(name)
        await hub.bus.purge(ORDERS, OrderTo.filter(tenant=TENANT))
        await kubelet.until("taken-off", _goes, NAMESPACE)
    assert await _stays(kubelet.api, kubelet.namespace)


async def _stays(api: KubeServer, name: str) -> bool:
    try:
        return not _goes(await api.get(NAMESPACE, name))
    except NotFound:
        return False


def _goes(namespace: Resource | None) -> bool:
    """No controller-manager runs here, which would finish what was deleted."""
    return namespace is None or "deletionTimestamp" in namespace["metadata"]
