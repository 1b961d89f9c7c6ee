"""Fixtures of a real API server. They need Go (or its wheel) once, no root, and are never skipped."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from shared.adapters.kube_api import KubeServer
from shared.ids import random_id
from shared.kube import NAMESPACE
from shared.pods import PodTemplate
from shared.requests import PodGrant
from shared.walls import TenantWalls
from tests.conftest import BusServer
from tests.integration.runner.hub import HUB, TENANT, Hub
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess
from tests.kube.kubelet import Kubelet


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
def plane(api_server: ControlPlane) -> ControlPlane:
    """What controllers work on. Modules may have another."""
    return api_server


@pytest.fixture
async def kubelet(plane: ControlPlane, hub: Hub) -> AsyncIterator[Kubelet]:
    assert hub.pod is not None
    async with KubeServer.connect(plane.kubeconfig) as api:
        yield Kubelet(api, hub.pod.namespace)


@pytest.fixture
def controllers(
    fresh_bus_server: BusServer, plane: ControlPlane, tmp_path: Path
) -> Iterator[Callable[..., ControllerProcess]]:
    made: list[ControllerProcess] = []
    namespace = f"lease-{random_id()[:12]}"
    plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

    def make(
        identity: str = "one", *, dies_at: str = "", skew_seconds: float = 0.0, **settings: str
    ) -> ControllerProcess:
        one = ControllerProcess(
            fresh_bus_server,
            plane.kubeconfig,
            namespace,
            tmp_path / identity,
            identity,
            settings,
            dies_at,
            skew_seconds,
        )
        made.append(one)
        return one.start()

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def controller(controllers: Callable[..., ControllerProcess]) -> ControllerProcess:
    return controllers()
