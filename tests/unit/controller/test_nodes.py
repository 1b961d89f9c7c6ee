"""What nodes have to give, from what the API server says of them and of their pods."""

from typing import Any

import pytest

from runner.controller.nodes import UNTOLD_SECONDS, Nodes, Requests, read_node, read_requests
from runner.controller.quantities import millis, whole
from shared.errors import Poison
from shared.needs import GIB, Capacity


def node(name: str = "n1", *, cpu: str = "4", ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"u-{name}", "labels": {"pool": "fixed"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "16Gi", "ephemeral-storage": "100Gi"},
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {"architecture": "arm64"},
        },
    }


def pod(*cpus: str, node: str | None = "n1", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    containers = [{"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}} for cpu in cpus]
    named = {} if node is None else {"nodeName": node}
    return {"spec": {"containers": containers, **named, **spec}, "status": {"phase": phase}}


def amount(cpu_millis: int, gib: float = 0, disk_bytes: int = 0) -> Capacity:
    return Capacity(cpu_millis=cpu_millis, memory_bytes=int(gib * GIB), disk_bytes=disk_bytes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250m", 250), ("1", 1000), ("0.5", 500), ("1e3", 1_000_000), ("1500u", 2), ("100n", 1), ("2k", 2_000_000)],
)
def test_processors_are_counted_in_thousandths_rounded_up(text: str, expected: int) -> None:
    assert millis(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("128974848", 128_974_848), ("129e6", 129_000_000), ("123Mi", 123 * 2**20), ("1.5Gi", 3 * 2**29), ("1M", 10**6)],
)
def test_bytes_are_counted_whole(text: str, expected: int) -> None:
    assert whole(text) == expected


@pytest.mark.parametrize("text", ["", "many", "1Xi", "Gi", "NaN"])
def test_what_is_no_quantity_is_poison(text: str) -> None:
    with pytest.raises(Poison):
        whole(text)


def test_a_node_tells_what_it_has_and_whether_it_takes_pods() -> None:
    told = read_node(node())
    assert told.allocatable == amount(4000, 16, 100 * GIB)
    assert (told.takes_pods, told.arch) == (True, "arm64")
    assert not read_node(node(ready="Unknown")).takes_pods
    assert not read_node(node(unschedulable=True)).takes_pods


def test_kubernetes_own_taints_do_not_take_a_node_out_of_its_pool() -> None:
    taints = [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
    ]
    assert [taint.key for taint in read_node(node(taints=taints)).seen.taints] == ["gpu"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (pod("1", "500m"), amount(1500, 2)),
        (pod("1", initContainers=[{"resources": {"requests": {"cpu": "3"}}}]), amount(3000, 1)),
        (
            pod("1", initContainers=[{"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}]),
            amount(2000, 1),
        ),
        (pod("0", resources={"requests": {"cpu": "2"}}), amount(2000, 1)),
        (pod("1", overhead={"cpu": "250m"}), amount(1250, 1)),
    ],
    ids=["containers", "init containers one by one", "sidecars beside", "of the whole pod", "overhead"],
)
def test_a_pod_requests_what_kube_scheduler_counts(told: dict[str, Any], expected: Capacity) -> None:
    assert read_requests(told) == Requests("n1", expected)


def test_a_pod_that_is_over_or_nowhere_requests_nothing() -> None:
    assert read_requests(pod("1", phase="Succeeded")) is None
    assert read_requests(pod("1", node=None)) is None


def free(nodes: Nodes) -> dict[str, int]:
    return {name: picture.free.cpu_millis for name, picture, gone in nodes.changes() if not gone}


def test_what_others_request_is_not_free_until_they_are_gone() -> None:
    nodes = Nodes()
    nodes.put_pod("p1", Requests("n1", amount(1000)))
    nodes.put_node(read_node(node()))
    assert free(nodes) == {"n1": 3000}
    nodes.put_pod("p1", Requests("n1", amount(1000)))
    assert free(nodes) == {}, "nothing new is told twice"
    nodes.put_pod("p1", None)
    assert free(nodes) == {"n1": 4000}
    assert [name for name, _, _ in nodes.all()] == ["n1"]


def test_a_list_drops_what_is_not_in_it() -> None:
    nodes = Nodes()
    nodes.keep_nodes([read_node(node("n1")), read_node(node("n2"))])
    nodes.keep_pods({"p1": Requests("n1", amount(1000)), "p2": Requests("n2", amount(2000))})
    assert free(nodes) == {"n1": 3000, "n2": 2000}
    nodes.keep_pods({"p2": Requests("n1", amount(2000))})
    assert free(nodes) == {"n1": 2000, "n2": 4000}
    nodes.keep_nodes([read_node(node("n2"))])
    assert [(name, gone) for name, _, gone in nodes.changes()] == [("n1", True)]
    assert [name for name, _, _ in nodes.all()] == ["n2"]


def test_an_image_seen_to_be_pulled_is_there_until_its_node_tells_or_should_have_told() -> None:
    nodes, image = Nodes(), "docker.io/library/python:3.13"
    nodes.use([image])
    nodes.put_node(read_node(node()))
    assert [picture.seen.images for _, picture, _ in nodes.changes()] == [[]]
    nodes.pulled("n1", image, 10.0)
    nodes.pulled("unknown", image, 10.0)
    assert [picture.seen.images for _, picture, _ in nodes.changes()] == [[image]]
    assert nodes.images({}) == {"n1": {image}}
    nodes.put_node(read_node(node()))  # some other change of it
    nodes.expire(10.0 + UNTOLD_SECONDS - 1)
    assert nodes.changes() == []
    nodes.expire(10.0 + UNTOLD_SECONDS)
    assert [picture.seen.images for _, picture, _ in nodes.changes()] == [[]]

    nodes.pulled("n1", image, 200.0)
    told = node()
    told["status"]["images"] = [{"names": [image]}]
    nodes.put_node(read_node(told))
    nodes.put_node(read_node(node()))  # the kubelet collected it
    assert nodes.images({}) == {"n1": frozenset()}
