"""A real node, the real controller and a bus. The hub is the one of the tests. All of it ends with the `async with`."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.adapters.identity import Identity
from shared.adapters.kube_api import KubeServer
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.facts import Order
from shared.ids import random_id
from shared.kube import NAMESPACE, POD
from shared.needs import Needs
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import Quota, TenantWalls
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, HUB, TENANT, Hub
from tests.kube.edge import name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge
from tests.node import node as nodes
from tests.node import pods as raw_pods
from tests.node.node import Node

NS = 1_000_000_000
NEEDS = Needs(cpu_millis=1000, memory_bytes=2**29, disk_bytes=2**29)


@dataclass
class Cluster:
    node: Node
    api: KubeServer
    hub: Hub

    @property
    def namespace(self) -> str:
        assert self.hub.pod is not None
        return self.hub.pod.namespace

    def template(self, **changes: Any) -> None:
        """Of the pods made from now on."""
        assert self.hub.pod is not None
        self.hub.pod = self.hub.pod.model_copy(update={"template": PodTemplate(**changes)})

    async def job(self, spec: dict[str, Any], needs: Needs = NEEDS) -> "Ran":
        """Until its verdict is on the bus; then until its pod is gone."""
        began = time.time()
        order = await self.hub.order(spec, "kube", needs=needs)
        ended = await self.hub.ended(order)
        told = time.time()
        if ended.outcome != "succeeded":
            raise SystemExit(f"job {order.job}: {ended}")
        first = int((await self.hub.until(order.job, "step-started", 1))["at_unix_ns"]) / NS
        await Kubelet(self.api, self.namespace).until_gone(name_of(order))
        return Ran(order, first - began, told - began)

    async def raw(self, pod: dict[str, Any], first: str | None = None) -> tuple[float, float]:
        """Seconds from the creation of a pod to what its first container says first, and to Succeeded."""
        about = pod["metadata"]
        began = time.time()
        await self.api.create(POD, pod)
        over = await raw_pods.until(self.api, about["namespace"], about["name"], raw_pods.is_over)
        told = time.time()
        if over["status"]["phase"] != "Succeeded":
            raise SystemExit(f"raw pod: {over['status']}")
        said = told
        if first is not None:
            path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/log?container={first}&timestamps=true"
            said = instant((await asyncio.to_thread(self.node.plane.text, path)).split()[0])
        await self.api.delete(POD, about["name"], about["namespace"], grace_seconds=0)
        await Kubelet(self.api, about["namespace"]).until_gone(about["name"])
        return said - began, told - began


@dataclass(frozen=True)
class Ran:
    """Seconds since the order was published."""

    order: Order
    first_step: float
    verdict: float


def instant(text: str) -> float:
    """RFC 3339 with nanoseconds, as the runtime notes them."""
    whole, _, part = text.removesuffix("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(f"0.{part or 0}")


@asynccontextmanager
async def opened(tune: Callable[[], None] = lambda: None, **settings: str) -> AsyncIterator[Cluster]:
    """`settings`: of the controller."""
    tune()
    with tempfile.TemporaryDirectory(prefix="k-") as scratch, nodes.running(Path(scratch)) as node:
        home = Path(scratch) / "hub"
        server = BusServer(home / "nats", Identity.create(home / "identity"))
        server.identity.add_tenant(TENANT)
        server.identity.add_cluster(CLUSTER)
        server.start()
        try:
            async with (
                server.connect(server.identity.credential(PROVISIONER)) as provisioner,
                server.connect(server.identity.credential(HUB)) as bus,
                KubeServer.connect(node.plane.kubeconfig) as api,
                Hub.serving(bus, server.identity, server.url, home) as hub,
            ):
                await provision(provisioner)
                name = f"overspill-{random_id()[:12]}"
                walls = TenantWalls(tenant=TENANT, namespaces=[name], quota=Quota(pods=10))
                hub.pod = PodGrant(pool="fixed", namespace=name, template=PodTemplate(), walls=walls)
                hub.routes["kube"] = edge.as_pods_reach(server.url)
                own = f"c-{random_id()[:12]}"
                await api.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}})
                await node.plane.until_account(own)
                controller = edge.controller(node, hub, own, **settings).start()
                try:
                    yield Cluster(node, api, hub)
                except BaseException:
                    print(controller.complaints()[-3000:])
                    raise
                finally:
                    if controller.process is not None:
                        controller.process.terminate()
                        controller.process.wait(60)
        finally:
            server.stop()


def load() -> float:
    return os.getloadavg()[0]
