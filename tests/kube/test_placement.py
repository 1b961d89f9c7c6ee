"""From a queued job to a pod on the node that has room, and to a serverless one when none has: the real scheduler,
cluster-metrics, grants and controller, on a real bus and a real API server of the test's own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.gateway.grants import QUEUE, Grants
from services.gateway.tenants import Directory
from services.scheduler.settings import Settings
from shared.adapters.kube_api import KubeServer
from shared.facts import AttemptEnded, JobRecord
from shared.flow import CLUSTERS, TENANTS, Evt, Job, Spec
from shared.ids import random_id
from shared.kube import NODE, POD
from shared.lifecycle import JobState, Reason
from shared.needs import GIB, Needs
from shared.parties import attempt_party
from shared.pods import PodTemplate
from shared.spec import JobSpec
from shared.tenancy import ClusterPool, ClusterRecord, TenantRecord
from shared.wire import encode
from tests.conftest import BusServer
from tests.integration.scheduler.world import World, running, world
from tests.kube import control_plane
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import ControllerProcess
from tests.kube.kubelet import Kubelet, condition

POOLS = [
    ClusterPool(pool="fixed", kind="fixed", pod=PodTemplate(node_selector={"pool": "fixed"})),
    ClusterPool(pool="eci", kind="serverless", pod=PodTemplate(labels={"alibabacloud.com/eci": "true"})),
]
NAMESPACE_OF_T1 = "overspill-t1"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane.running(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
async def kubelet(plane: ControlPlane) -> AsyncIterator[Kubelet]:
    async with KubeServer.connect(plane.kubeconfig) as api:
        yield Kubelet(api, NAMESPACE_OF_T1)


@pytest.fixture
async def w(fresh_bus_server: BusServer) -> AsyncIterator[World]:
    """A hub with one Kubernetes cluster."""
    async with hub(fresh_bus_server, Settings(), "c1") as made:
        yield made


@asynccontextmanager
async def hub(server: BusServer, settings: Settings, *clusters: str) -> AsyncIterator[World]:
    """Scheduler, cluster-metrics, and the gateway's grants."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(world(server))
        bus = made.gateway
        await bus.bucket(TENANTS).put("t1", encode(TenantRecord(tenant="t1")))
        for cluster in clusters:
            record = ClusterRecord(cluster=cluster, bus_urls=[server.url], pools=POOLS)
            await bus.bucket(CLUSTERS).put(cluster, encode(record))
        directory = Directory(bus)
        await stack.enter_async_context(running(directory.tenants.run()))
        await stack.enter_async_context(running(directory.clusters.run()))
        await asyncio.wait_for(directory.clusters.loaded.wait(), 30)
        await asyncio.wait_for(directory.tenants.loaded.wait(), 30)
        grants = Grants(bus, directory, server.identity, 60, refused=str)
        await stack.enter_async_context(bus.serve(grants.subject, grants.answer, queue=QUEUE))
        await stack.enter_async_context(made.scheduler(settings))
        yield made


async def submit(w: World, cpus: int = 2, **about: Any) -> str:
    job, spec = random_id(), JobSpec.model_validate({"name": "build", "steps": [{"run": "make", "image": "i:1"}]})
    needs = Needs(cpu_millis=cpus * 1000, memory_bytes=GIB, disk_bytes=GIB)
    values = {
        "tenant": "t1",
        "job": job,
        "name": "build",
        "state": JobState.QUEUED,
        "created_unix_ns": time.time_ns(),
        "content_hash": "0" * 64,
        "needs": needs,
        "isolation": "container",
        "timeout_seconds": 600.0,
        "step_count": 1,
        "submitted_by": "test",
        "write_id": random_id(),
        **about,
    }
    await w.gateway.publish(Spec("t1", job), spec.canonical(), expect_seq=0)
    await w.gateway.publish(Job("t1", job), encode(JobRecord.model_validate(values)), expect_seq=0)
    return job


async def join(kubelet: Kubelet, name: str, cpus: int, **labels: str) -> None:
    await kubelet.api.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    status = {
        "allocatable": {"cpu": str(cpus), "memory": "16Gi", "ephemeral-storage": "100Gi"},
        "capacity": {"cpu": str(cpus), "memory": "16Gi", "ephemeral-storage": "100Gi"},
        "conditions": [condition("Ready", "True", "KubeletReady")],
    }
    await kubelet.api.merge(NODE, f"{name}/status", None, {"status": status})


async def succeed(w: World, kubelet: Kubelet, job: str) -> None:
    """As step-ctl and the kubelet tell it of the job's first attempt, which runs."""
    ended = AttemptEnded(
        tenant="t1", job=job, epoch=1, at_unix_ns=1, outcome="succeeded", reason=Reason.ALL_STEPS_OK, exit_code=0
    )
    async with w.server.connect(w.server.identity.credential(attempt_party("t1", job, 1), tenant="t1")) as runner:
        await runner.publish(Evt("t1", job, 1, ended.token()), encode(ended), expect_seq=0)
    await kubelet.end(f"{job}-1")


def preferred(pod: dict[str, Any]) -> str:
    terms = pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    name: str = terms[0]["preference"]["matchFields"][0]["values"][0]
    return name


async def test_a_job_goes_to_the_node_with_room_and_spills_when_there_is_none(
    w: World, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    await join(kubelet, "ip-10-0-0-7.internal", 3, pool="fixed")
    await join(kubelet, "other", 64)
    controllers()
    first = await submit(w)
    placed = await w.until(first, lambda record: record.state is JobState.PLACED)
    assert placed.placement is not None
    assert (placed.placement.pool, placed.placement.target) == ("fixed", "kube")
    pod = await kubelet.pod(f"{first}-1")
    assert preferred(pod) == "ip-10-0-0-7.internal"
    assert pod["spec"]["nodeSelector"] == {"pool": "fixed"}
    second = await submit(w)
    spilled = await kubelet.pod(f"{second}-1")
    assert spilled["metadata"]["labels"]["alibabacloud.com/eci"] == "true"
    assert "affinity" not in spilled["spec"]
    await kubelet.run(f"{first}-1")
    await succeed(w, kubelet, first)
    assert (await w.ended(first)).state is JobState.SUCCEEDED
    third = await submit(w)
    assert preferred(await kubelet.pod(f"{third}-1")) == "ip-10-0-0-7.internal"


async def test_what_others_run_on_a_node_is_not_given_away(
    w: World, controllers: Callable[..., ControllerProcess], kubelet: Kubelet, plane: ControlPlane
) -> None:
    await join(kubelet, "n1", 4, pool="fixed")
    account = {"metadata": {"name": "default"}}
    plane.call("POST", "/api/v1/namespaces/kube-system/serviceaccounts", account)
    resources = {"requests": {"cpu": "3"}}
    other = {"name": "other", "image": "i", "resources": resources}
    spec = {"nodeName": "n1", "containers": [other]}
    about = {"name": "other", "namespace": "kube-system"}
    await kubelet.api.create(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})
    controllers()
    job = await submit(w, runs_on=["fixed"])
    await w.until(job, lambda record: record.waiting_for == "too_big")
    await kubelet.api.delete(POD, "other", "kube-system", grace_seconds=0)
    assert preferred(await kubelet.pod(f"{job}-1")) == "n1"


async def test_a_pod_gone_by_itself_is_tried_again_as_the_next_attempt(
    w: World, controllers: Callable[..., ControllerProcess], kubelet: Kubelet
) -> None:
    await join(kubelet, "n1", 4, pool="fixed")
    controllers()
    job = await submit(w)
    await kubelet.run(f"{job}-1")
    await kubelet.api.delete(POD, f"{job}-1", kubelet.namespace, grace_seconds=0)
    await kubelet.pod(f"{job}-2")
    record = await w.until(job, lambda record: record.epoch == 2)
    assert [past.reason for past in record.past_attempts] == [Reason.RUNNER_LOST]
