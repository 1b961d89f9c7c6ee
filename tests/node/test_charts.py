"""The edge from its chart: helm installs it, it has the chart's rights alone, and a job goes through."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.kube_api import KubeServer
from shared.kube import LEASE, POD, SECRET, Kind, Resource
from shared.parties import controller_party
from tests.integration.runner.hub import CLUSTER, Hub
from tests.kube.edge import name_of
from tests.kube.helm import CHARTS, helm
from tests.kube.kubelet import Kubelet
from tests.node import edge, groups, probes
from tests.node import pods as raw_pods
from tests.node.node import Node
from tests.node.runtime import BUSYBOX

DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
LONG_AGO_SECONDS = 3600


@pytest.fixture
async def joined(node: Node, hub: Hub, kube: KubeServer, namespace: str) -> AsyncIterator[str]:
    """The namespace where the chart is installed, with the three values that a cluster joins by."""
    node.image("services")
    node.image("step-ctl")
    credential = hub.identity.credential(controller_party(CLUSTER), cluster=CLUSTER)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "overspill-bus", "namespace": namespace},
        "stringData": {"controller.creds": credential.to_file_text()},
    }
    await kube.create(SECRET, secret)
    values = {
        "bus.url": edge.as_pods_reach(hub.url),
        "bus.credentialSecret": "overspill-bus",
        "cluster": CLUSTER,
        "builds.defaultImage": BUSYBOX,
        "settings.ordersSeconds": "1",
    }
    words = [f"--set-string={name}={value}" for name, value in values.items()]
    into = ("--namespace", namespace, "--wait", "--timeout", "180s")
    helm("install", "edge", str(CHARTS / "overspill-edge"), *into, *words, kubeconfig=node.plane.kubeconfig)
    yield namespace
    helm("uninstall", "edge", "--namespace", namespace, "--wait", kubeconfig=node.plane.kubeconfig)


@pytest.fixture
def logs(node: Node, joined: str) -> Iterator[None]:
    """Printed when the test fails."""
    yield
    pods = node.plane.call("GET", f"/api/v1/namespaces/{joined}/pods")["items"]
    for pod in pods:
        sys.stdout.write(node.plane.text(f"/api/v1/namespaces/{joined}/pods/{pod['metadata']['name']}/log")[-5000:])


@pytest.mark.usefixtures("logs")
async def test_a_job_goes_through_the_installed_edge(node: Node, hub: Hub, kube: KubeServer, joined: str) -> None:
    assert hub.pod is not None
    order = await hub.order({"name": "x", "steps": [{"run": "echo hello"}, {"run": "echo bye"}]}, "kube")
    ended = await hub.ended(order)
    assert ended.outcome == "succeeded", ended
    assert (await hub.log(order.job, 2)).data == b"bye\n"
    await Kubelet(kube, hub.pod.namespace).until_gone(name_of(order))
    pods = node.plane.call("GET", f"/api/v1/namespaces/{joined}/pods")["items"]
    told = "".join(node.plane.text(f"/api/v1/namespaces/{joined}/pods/{pod['metadata']['name']}/log") for pod in pods)
    assert "Forbidden" not in told
    assert "cannot" not in told


async def probe_every_second(node: Node, kube: KubeServer, namespace: str) -> None:
    """The chart's own liveness probe, only sooner; once its pods are those."""
    (made,) = (await kube.list(DEPLOYMENT, namespace)).items
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["livenessProbe"]["periodSeconds"] = 1
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    name = made["metadata"]["name"]
    await kube.merge(DEPLOYMENT, name, namespace, change)

    def is_rolled_out() -> bool:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        about = node.plane.call("GET", path)
        status, wanted = about["status"], about["spec"]["replicas"]
        seen = status["observedGeneration"] >= about["metadata"]["generation"]
        counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "readyReplicas")]
        return seen and counts == [wanted] * 3

    await asyncio.to_thread(node.plane.until, "kube-controller-manager", is_rolled_out)


def stand_still(node: Node, uid: str) -> None:
    """As a controller that hangs has long done: its process is stopped, and its pulse is old."""
    for pid in groups.processes(b"runner.controller"):
        if uid in groups.group_of(pid):
            os.kill(pid, signal.SIGSTOP)
    pulse = node.home / "kubelet/pods" / uid / "volumes/kubernetes.io~empty-dir/tmp/pulse"
    at = pulse.stat().st_mtime - LONG_AGO_SECONDS
    os.utime(pulse, (at, at))


@pytest.mark.usefixtures("logs")
async def test_a_controller_that_stands_still_is_restarted_by_its_probe_and_jobs_go_on(
    node: Node, hub: Hub, kube: KubeServer, joined: str
) -> None:
    await probe_every_second(node, kube, joined)
    assert ("controller", "Liveness") in await asyncio.to_thread(probes.until_all_passed, node, joined)
    (lease,) = (await kube.list(LEASE, joined)).items
    leader = await kube.get(POD, lease["spec"]["holderIdentity"], joined)
    stand_still(node, leader["metadata"]["uid"])

    def is_back(pod: Resource) -> bool:
        (status,) = pod["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    back = await raw_pods.until(kube, joined, leader["metadata"]["name"], is_back)
    (status,) = back["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    order = await hub.order({"name": "x", "steps": [{"run": "true"}]}, "kube")
    assert (await hub.ended(order)).outcome == "succeeded"
