"""Images that come over a network: pulled by a kubelet from a registry, ahead of time, or not to be had."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.cluster_metrics.settings import Settings
from services.cluster_metrics.wiring import serve
from shared.adapters.kube_api import KubeServer
from shared.flow import CLUSTERS, METRICS
from shared.kube import EVENT, NODE, SECRET
from shared.lifecycle import Reason
from shared.parties import CLUSTER_METRICS
from shared.pods import PodTemplate
from shared.tenancy import ClusterPool, ClusterRecord
from shared.wire import encode
from tests.conftest import BusServer
from tests.integration.runner.hub import CLUSTER, Hub
from tests.integration.scheduler.world import running
from tests.kube.edge import ControllerProcess, name_of
from tests.kube.kubelet import Kubelet
from tests.node import edge, registry
from tests.node.node import NAME, Node
from tests.node.registry import Registry
from tests.node.runtime import busybox

LAYER_BYTES, BYTES_PER_SECOND = 8 << 20, 8 << 20
LOGIN = ("builder", "secret")


@pytest.fixture
def images(node: Node, tmp_path: Path) -> Iterator[Registry]:
    """A registry that the node may pull from, with `tool:1`."""
    with registry.running(tmp_path) as made:
        node.runtime.trust(made.address)
        more = tmp_path / "more"
        more.mkdir()
        (more / "data").write_bytes(os.urandom(LAYER_BYTES))
        base = busybox(tmp_path / "busybox")
        made.push(dataclasses.replace(base, name="tool:1", layers=(*base.layers, more)))
        yield made


@pytest.fixture
async def metrics(hub: Hub, fresh_bus_server: BusServer) -> AsyncIterator[None]:
    record = ClusterRecord(cluster=CLUSTER, bus_urls=[hub.url], pools=[ClusterPool(pool="fixed", kind="fixed")])
    await hub.bus.bucket(CLUSTERS).put(CLUSTER, encode(record))
    async with AsyncExitStack() as stack:
        credential = fresh_bus_server.identity.credential(CLUSTER_METRICS)
        bus = await stack.enter_async_context(fresh_bus_server.connect(credential))
        ready = asyncio.Event()
        await stack.enter_async_context(running(serve(Settings(), bus, ready)))
        await asyncio.wait_for(ready.wait(), 30)
        yield


@pytest.fixture
def keeping(node: Node, hub: Hub, namespace: str) -> Iterator[ControllerProcess]:
    """A controller that keeps one image warm."""
    one = edge.controller(node, hub, namespace, PREPULL_IMAGES="1").start()
    yield one
    if one.process is not None:
        one.signal(signal.SIGKILL)


def spec(image: str) -> dict[str, Any]:
    return {"name": "uses", "steps": [{"run": "true", "image": image}]}


async def until_told(hub: Hub, image: str, *, there: bool, since: int = 0) -> int:
    """The hub sees whether the node holds it. Returns where in the stream."""
    async with asyncio.timeout(60):
        async for message in hub.bus.tail(METRICS, f"metrics.{CLUSTER}.node.{NAME}", from_seq=since + 1):
            if (image.encode() in message.data) == there:
                return message.seq
    raise AssertionError


async def until_held(node: Node, pods: Kubelet, image: str, *, there: bool) -> None:
    """By the kubelet's word."""
    await asyncio.to_thread(node.look_at_images)
    await pods.until(NAME, lambda told: (image in str(told["status"].get("images"))) == there, NODE)


async def pulls(kube: KubeServer, namespace: str, pod: str) -> list[str]:
    """What the kubelet said of each image of the pod."""
    told = (await kube.list(EVENT, namespace)).items
    return [each["message"] for each in told if each["involvedObject"]["name"] == pod and each["reason"] == "Pulled"]


async def test_an_image_that_jobs_use_often_comes_back_to_its_node_before_the_next_job_asks_for_it(
    node: Node, kube: KubeServer, hub: Hub, images: Registry, metrics: None, keeping: ControllerProcess, pods: Kubelet
) -> None:
    image = f"{images.address}/tool:1"
    images.bytes_per_second = BYTES_PER_SECOND
    orders = [await hub.order(spec(image), "kube") for _ in range(3)]
    for order in orders:
        ended = await hub.ended(order)
        assert ended.outcome == "succeeded", (ended, keeping.complaints()[-3000:])
        await pods.until_gone(name_of(order))
    await until_held(node, pods, image, there=True)
    await asyncio.to_thread(node.runtime.forget, image)
    images.given.clear()
    seen = await until_told(hub, image, there=True)
    await until_held(node, pods, image, there=False)
    gone = await until_told(hub, image, there=False, since=seen)
    await until_told(hub, image, there=True, since=gone)
    assert images.given, "the kubelet pulled it"
    pulled = len(images.given)
    order = await hub.order(spec(image), "kube")
    assert (await hub.ended(order)).outcome == "succeeded"
    assert len(images.given) == pulled, "nothing was pulled for the job"
    said = await pulls(kube, pods.namespace, name_of(order))
    assert any(image in line and "already present" in line for line in said), said
    await pods.until_gone(name_of(order))


async def test_a_private_image_is_named_as_refused_and_runs_with_its_pool_s_pull_secret(
    kube: KubeServer, hub: Hub, images: Registry, controller: ControllerProcess, pods: Kubelet
) -> None:
    image = f"{images.address}/tool:1"
    images.login = LOGIN
    refused = await hub.order(spec(image), "kube")
    ended = await hub.ended(refused)
    assert (ended.outcome, ended.reason, ended.step) == ("error", Reason.IMAGE_PULL, 1), ended
    assert image in ended.message
    assert "401" in ended.message or "authorization" in ended.message, ended.message

    about = {"name": "registry", "namespace": pods.namespace}
    opens = {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": images.pull_secret()}}
    await kube.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": about, **opens})
    assert hub.pod is not None
    hub.pod = hub.pod.model_copy(update={"template": PodTemplate(image_pull_secrets=["registry"])})
    order = await hub.order(spec(image), "kube")
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", (ended, controller.complaints()[-3000:])
    for each in (refused, order):
        await pods.until_gone(name_of(each))
