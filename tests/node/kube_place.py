"""The node as a place of the behaviour suite: each job a real pod, through the real controller."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import NAMESPACE, NODE, POD, SECRET, Resource
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import TenantWalls
from tests.behaviour.machine import HubRun, processes_of
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, TENANT, Hub
from tests.integration.runner.waiting import until_process_gone
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge, network
from tests.node.node import NAME, Node
from tests.node.runtime import PAUSE_COMMAND


@dataclass
class KubeRun(HubRun):
    node: Node
    pods: Kubelet
    pod: Resource

    @property
    def directory(self) -> Path:
        return edge.volume(self.node, self.pod)

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """As `kubectl drain` does."""
        await self.pods.api.merge(NODE, NAME, None, {"spec": {"unschedulable": True}})
        try:
            await self.pods.evict(name_of(self.order))
            yield
        finally:
            await self.pods.api.merge(NODE, NAME, None, {"spec": {"unschedulable": None}})

    async def left(self) -> list[str]:
        """Of the pod's control group, without what holds its namespaces: it ends before Kubernetes says so. That the
        pod goes too, with its secret, is seen once for all of them.
        """
        for process in self._running():
            await until_process_gone(int(process.split()[0]))
        return self._running()

    def _running(self) -> list[str]:
        found = {*processes_of(self.pod["metadata"]["uid"]), *processes_of(self.order.job)}
        return [each for each in found if "\0".join(PAUSE_COMMAND) not in each]


@dataclass
class KubePlace:
    hub: Hub
    node: Node
    pods: Kubelet
    controller: ControllerProcess
    loopback: str = network.HOST

    async def submit(self, spec: dict[str, Any], *, timeout_seconds: float = 600.0) -> KubeRun:
        order = await self.hub.order(spec, "kube", timeout_seconds=timeout_seconds)
        pod = await self.pods.pod(name_of(order))
        return KubeRun(self.hub, order, self.node, self.pods, pod)


@asynccontextmanager
async def kube_place(server: BusServer, directory: Path, node: Node) -> AsyncIterator[KubePlace]:
    namespace, lease = (f"{kind}-{random_id()[:12]}" for kind in ("overspill", "lease"))
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, directory) as hub,
        KubeServer.connect(node.plane.kubeconfig) as api,
    ):
        walls = TenantWalls(tenant=TENANT, namespaces=[namespace])
        hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
        hub.routes["kube"] = edge.as_pods_reach(server.url)
        await api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lease}})
        controller = edge.controller(node, hub, lease)
        pods = Kubelet(api, namespace, NAME)
        try:
            yield KubePlace(hub, node, pods, controller.start())
            await pods.until_none(POD)
            await pods.until_none(SECRET)
        finally:
            controller.kill()
            for each in (namespace, lease):
                await api.delete(NAMESPACE, each)
