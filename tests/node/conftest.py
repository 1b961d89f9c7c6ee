"""The session's node. Tests take namespaces of their own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import NAMESPACE
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import Quota, TenantWalls
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, TENANT, Hub
from tests.kube.edge import ControllerProcess
from tests.kube.kubelet import Kubelet
from tests.node import containerd, edge, podman
from tests.node import node as nodes
from tests.node.containers import Store
from tests.node.node import Node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with nodes.running(tmp_path_factory.mktemp("n")) as started:
        yield started


@pytest.fixture(scope="session", params=[containerd, podman], ids=["containerd", "podman"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Where an agent's containers are, of each runtime in turn."""
    with request.param.store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture
async def kube(node: Node) -> AsyncIterator[KubeServer]:
    """As the cluster's admin."""
    async with KubeServer.connect(node.plane.kubeconfig) as api:
        yield api


@pytest.fixture
async def namespace(node: Node, kube: KubeServer) -> AsyncIterator[str]:
    """Of the test's own, taken away with all that is in it."""
    name = f"t-{random_id()[:12]}"
    await kube.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await node.plane.until_account(name)
    yield name
    await kube.delete(NAMESPACE, name)


@pytest.fixture
async def hub(fresh_bus_server: BusServer, kube: KubeServer, tmp_path: Path) -> AsyncIterator[Hub]:
    """A test's, whose tenant has walls in a namespace of its own."""
    server = fresh_bus_server
    namespace = f"overspill-{random_id()[:12]}"
    async with (
        server.connect(server.identity.credential(HUB)) as bus,
        Hub.serving(bus, server.identity, server.url, tmp_path) as hub,
    ):
        walls = TenantWalls(tenant=TENANT, namespaces=[namespace], quota=Quota(pods=10))
        hub.pod = PodGrant(pool="fixed", namespace=namespace, template=PodTemplate(), walls=walls)
        hub.routes["kube"] = edge.as_pods_reach(server.url)
        yield hub
    await kube.delete(NAMESPACE, namespace)


@pytest.fixture
def controller(node: Node, hub: Hub, namespace: str) -> Iterator[ControllerProcess]:
    one = edge.controller(node, hub, namespace).start()
    yield one
    one.kill()


@pytest.fixture
def pods(kube: KubeServer, hub: Hub) -> Kubelet:
    """To wait with; the real kubelet does the rest."""
    assert hub.pod is not None
    return Kubelet(kube, hub.pod.namespace)
