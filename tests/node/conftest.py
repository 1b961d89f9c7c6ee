"""The session's node. Tests take namespaces of their own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import NAMESPACE
from tests.node import node as nodes
from tests.node.node import Node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with nodes.running(tmp_path_factory.mktemp("n")) as started:
        yield started


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
