"""Fixtures of a real API server. They need Go (or its wheel) once, no root, and are never skipped."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import NAMESPACE
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver of the session: nothing acts on what is written there."""
    with control_plane.running(tmp_path_factory.mktemp("kube")) as plane:
        yield plane


@pytest.fixture
async def kube(api_server: ControlPlane) -> AsyncIterator[KubeServer]:
    """As the cluster's admin."""
    async with KubeServer.connect(api_server.kubeconfig) as api:
        yield api


@pytest.fixture
async def namespace(kube: KubeServer) -> str:
    """Of the test's own."""
    name = f"t-{random_id()[:12]}"
    await kube.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture(scope="session")
def control_plane_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With controllers and scheduler: quotas count, namespaces get their accounts, garbage is collected; no node."""
    with control_plane.running(tmp_path_factory.mktemp("kube"), controllers=True) as plane:
        yield plane


@pytest.fixture(name="control_plane")
def control_plane_of_the_session(control_plane_started: ControlPlane) -> ControlPlane:
    return control_plane_started
