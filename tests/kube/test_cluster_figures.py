"""What the hub is told of a cluster: a real API server, the real controller and cluster-metrics, a real bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from runner.controller.prepulls import APP, IMAGE
from runner.controller.prepulls import NODE as NODE_OF
from services.cluster_metrics.settings import Settings
from services.cluster_metrics.wiring import serve
from shared.clock import SystemClock
from shared.facts import ClusterSeen
from shared.facts.machine import PoolSeen
from shared.flow import CLUSTERS, METRICS, ClusterMetrics
from shared.kube import EVENT, NODE, POD
from shared.kube_following import Listed, Selection, follow
from shared.needs import GIB
from shared.parties import CLUSTER_METRICS
from shared.pods import PodTemplate
from shared.tenancy import ClusterPool, ClusterRecord
from shared.wire import decode, encode
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, Hub
from tests.integration.scheduler.world import running
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet, condition, container, waiting

SPEC = {"name": "b", "steps": [{"run": "make", "image": "python:3.13"}]}
POOLS = [
    ClusterPool(pool="fixed", kind="fixed", pod=PodTemplate(node_selector={"pool": "fixed"})),
    ClusterPool(pool="eci", kind="serverless", pod=PodTemplate(node_selector={"type": "virtual-kubelet"})),
]


@pytest.fixture
def plane(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with control_plane.running(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture
async def watching(hub: Hub, fresh_bus_server: BusServer) -> AsyncIterator[None]:
    record = ClusterRecord(cluster=CLUSTER, bus_urls=[fresh_bus_server.url], pools=POOLS)
    await hub.bus.bucket(CLUSTERS).put(CLUSTER, encode(record))
    credential = fresh_bus_server.identity.credential(CLUSTER_METRICS)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(fresh_bus_server.connect(credential))
        ready = asyncio.Event()
        await stack.enter_async_context(running(serve(Settings(), bus, ready)))
        await asyncio.wait_for(ready.wait(), 30)
        yield


async def join(kubelet: Kubelet, name: str, labels: dict[str, str], *images: str) -> None:
    await kubelet.join(name, labels=labels)
    amounts = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi"}
    status = {
        "allocatable": amounts,
        "capacity": amounts,
        "conditions": [condition("Ready", "True", "KubeletReady")],
        "images": [{"names": [image], "sizeBytes": 1} for image in images],
    }
    await kubelet.api.merge(NODE, f"{name}/status", None, {"status": status})


async def until(hub: Hub, look: Callable[[dict[str, PoolSeen]], bool]) -> list[ClusterSeen]:
    """All that was told until then."""
    told: list[ClusterSeen] = []
    async with asyncio.timeout(60):
        async for message in hub.bus.tail(METRICS, str(ClusterMetrics(CLUSTER)), from_seq=1):
            told.append(decode(ClusterSeen, message.data))
            if look({pool.pool: pool for pool in told[-1].pools}):
                return told
    raise AssertionError


async def test_the_hub_sees_what_is_requested_why_pods_wait_and_how_long_a_pull_took(
    hub: Hub, plane: ControlPlane, controllers: Callable[..., ControllerProcess], kubelet: Kubelet, watching: None
) -> None:
    await join(kubelet, "node-1", {"pool": "fixed"}, "docker.io/library/python:3.13", "docker.io/library/other:1")
    await join(kubelet, "vk-1", {"type": "virtual-kubelet"})
    controllers()
    order = await hub.order(SPEC, "kube")
    pod = await kubelet.pod(name_of(order))
    await until(hub, lambda pools: bool(pools["fixed"].pods and pools["fixed"].pods.pending == {"unscheduled": 1}))
    await kubelet.bind(name_of(order))
    names = [each["name"] for each in pod["spec"]["containers"]]
    await kubelet.tell(name_of(order), "Pending", *(container(each, waiting("ContainerCreating")) for each in names))
    await until(hub, lambda pools: bool(pools["fixed"].pods and pools["fixed"].pods.pending == {"starting": 1}))
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "pulled", "namespace": kubelet.namespace},
        "involvedObject": {
            "kind": "Pod",
            "name": name_of(order),
            "namespace": kubelet.namespace,
            "uid": pod["metadata"]["uid"],
        },
        "reason": "Pulled",
        "message": 'Successfully pulled image "python:3.13" in 1.5s (1.5s including waiting). Image size: 9 bytes.',
        "type": "Normal",
    }
    await kubelet.api.create(EVENT, event)
    await kubelet.tell(name_of(order), "Running", *(container(each, {"running": {}}) for each in names))

    def complete(pools: dict[str, PoolSeen]) -> bool:
        pods = pools["fixed"].pods
        return bool(pods and pods.phases == {"Running": 1} and pods.start and pods.pull)

    told = await until(hub, complete)
    pools = {pool.pool: pool for pool in told[-1].pools}
    fixed = pools["fixed"]
    assert fixed.pods is not None
    assert fixed.pods.pull is not None
    assert (fixed.pods.pull.count, fixed.pods.pull.p50) == (1, 1.5)
    assert fixed.requested is not None
    assert fixed.requested.cpu_millis == 100, "ours count as requested"
    assert fixed.allocatable.cpu_millis == 8000, "and not as taken by others"
    (shape,) = fixed.shapes
    assert (shape.cpu_millis, shape.memory_bytes, shape.nodes, shape.free.cpu_millis) == (8000, 16 * GIB, 1, 7900)
    assert pools["eci"].virtual_nodes == 1
    versions = [seen.version for seen in told]
    assert versions == sorted(set(versions))


async def test_a_node_s_images_that_steps_use_are_told(
    hub: Hub, controllers: Callable[..., ControllerProcess], kubelet: Kubelet, watching: None
) -> None:
    await join(kubelet, "node-1", {"pool": "fixed"}, "docker.io/library/python:3.13", "docker.io/library/other:1")
    controllers()
    await kubelet.pod(name_of(await hub.order(SPEC, "kube")))
    async with asyncio.timeout(60):
        async for message in hub.bus.tail(METRICS, f"metrics.{CLUSTER}.node.node-1", from_seq=1):
            if b"docker.io/library/python:3.13" in message.data:
                assert b"other" not in message.data
                return
    raise AssertionError


async def test_an_image_that_steps_use_often_is_pulled_on_a_node_without_it_and_the_pod_is_cleaned_up(
    hub: Hub, plane: ControlPlane, controllers: Callable[..., ControllerProcess], kubelet: Kubelet, watching: None
) -> None:
    await join(kubelet, "node-1", {"pool": "fixed"}, "docker.io/library/python:3.13")
    await join(kubelet, "node-2", {"pool": "fixed"})
    await join(kubelet, "foreign", {})
    own = controllers(PREPULL_IMAGES="1", PREPULL_NODE_SELECTOR='{"pool": "fixed"}')
    plane.call("POST", f"/api/v1/namespaces/{own.namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    pods = [await kubelet.pod(name_of(await hub.order(SPEC, "kube"))) for _ in range(3)]
    where = Kubelet(kubelet.api, own.namespace)

    async def pulled() -> None:
        about = {"kind": "Pod", "namespace": kubelet.namespace, "uid": pods[0]["metadata"]["uid"]}
        message = 'Successfully pulled image "python:3.13" in 9s (9s including waiting). Image size: 9 bytes.'
        event = {"apiVersion": "v1", "kind": "Event", "involvedObject": about, "reason": "Pulled", "message": message}
        await kubelet.api.create(EVENT, {**event, "metadata": {"name": "pulled", "namespace": kubelet.namespace}})

    await pulled()
    selection = Selection(POD, own.namespace, labels=f"app={APP}")
    async with asyncio.timeout(60), aclosing(follow(kubelet.api, selection, SystemClock())) as changes:
        async for told in changes:
            found = told.items if isinstance(told, Listed) else [told.resource]
            if found:
                break
    (pod,) = found
    annotations = pod["metadata"]["annotations"]
    assert (annotations[NODE_OF], annotations[IMAGE]) == ("node-2", "docker.io/library/python:3.13")
    await where.end(pod["metadata"]["name"])
    await where.until_gone(pod["metadata"]["name"])
