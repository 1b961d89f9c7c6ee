"""The edge from its chart: helm installs it, it has the chart's rights alone, and a job goes through."""

import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.kube_api import KubeServer
from shared.kube import SECRET
from shared.parties import controller_party
from tests.integration.runner.hub import CLUSTER, Hub
from tests.kube.edge import name_of
from tests.kube.helm import CHARTS, helm
from tests.kube.kubelet import Kubelet
from tests.node import edge
from tests.node.node import Node
from tests.node.runtime import BUSYBOX


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
