"""The node is a real one: what runs on it runs, reaches what it may, and is told of."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from shared.adapters.kube_api import KubeServer
from shared.kube import POD
from tests.node import network, pods
from tests.node.node import Node


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of something that answers on this machine's loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    yield server.server_address[1]
    server.shutdown()
    serving.join()
    server.server_close()


async def test_a_pod_runs_and_succeeds(kube: KubeServer, namespace: str) -> None:
    await kube.create(POD, pods.raw_pod(namespace, "one", "true", "exit 0"))
    pod = await pods.until(kube, namespace, "one", pods.is_over)
    assert pod["status"]["phase"] == "Succeeded"
    assert [each["state"]["terminated"]["exitCode"] for each in pod["status"]["containerStatuses"]] == [0, 0]


async def test_a_pod_that_fails_says_with_what(node: Node, kube: KubeServer, namespace: str) -> None:
    await kube.create(POD, pods.raw_pod(namespace, "one", "echo it breaks; exit 7"))
    pod = await pods.until(kube, namespace, "one", pods.is_over)
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert node.plane.text(f"/api/v1/namespaces/{namespace}/pods/one/log") == "it breaks\n"


async def test_a_pod_reaches_this_machine_and_the_api_server_and_nothing_else(
    kube: KubeServer, namespace: str, listener: int
) -> None:
    scripts = (
        f"nc -w 10 {network.HOST} {listener} </dev/null",
        f"nc -w 10 {network.API_SERVICE} 443 </dev/null",
        "! nc -w 10 192.0.2.1 80 </dev/null",
    )
    await kube.create(POD, pods.raw_pod(namespace, "one", *scripts))
    pod = await pods.until(kube, namespace, "one", pods.is_over)
    assert pod["status"]["phase"] == "Succeeded", pod["status"]["containerStatuses"]
