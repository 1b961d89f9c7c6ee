"""From a controller's beats to rooms in pools."""

from typing import Any

import pytest

from services.cluster_metrics import counting, policy
from services.cluster_metrics.model import TellMachine
from services.cluster_metrics.pools import pool_of
from shared.facts import MachineSeen
from shared.facts.machine import NodeSeen, Taint
from shared.needs import GIB, Capacity
from shared.pods import KUBE, PodTemplate
from shared.tenancy import ClusterPool, ClusterRecord
from tests.unit.cluster_metrics.test_policy import Scene

ECI = PodTemplate(node_selector={"type": "virtual-kubelet"})
LIMIT = Capacity(cpu_millis=64_000, memory_bytes=128 * GIB, disk_bytes=GIB)
POOLS = [
    ClusterPool(pool="any", kind="fixed"),
    ClusterPool(pool="gpu", kind="fixed", pod=PodTemplate(node_selector={"gpu": "yes"}, tolerations=[{"key": "gpu"}])),
    ClusterPool(pool="eci", kind="serverless", pod=ECI, limit=LIMIT),
]
GPU = Taint(key="gpu")


@pytest.mark.parametrize(
    ("labels", "taints", "expected"),
    [
        ({}, [], "any"),
        ({"gpu": "yes"}, [], "gpu"),
        ({"gpu": "yes"}, [GPU], "gpu"),
        ({}, [GPU], None),
        ({}, [Taint(key="soft", effect="PreferNoSchedule")], "any"),
        ({"type": "virtual-kubelet"}, [], None),
    ],
    ids=["no labels", "the nearer pool", "tolerated", "not tolerated", "only preferred", "virtual"],
)
def test_a_node_belongs_to_the_pool_whose_pods_it_would_take(
    labels: dict[str, str], taints: list[Taint], expected: str | None
) -> None:
    assert pool_of(NodeSeen(name="n", labels=labels, taints=taints), POOLS) == expected


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "value": "a100"}, True),
        ({"key": "gpu", "value": "h100"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_are_read_as_kube_scheduler_reads_them(toleration: dict[str, Any], tolerated: bool) -> None:
    pool = ClusterPool(pool="p", kind="fixed", pod=PodTemplate(tolerations=[toleration]))
    node = NodeSeen(name="n", taints=[Taint(key="gpu", value="a100")])
    assert pool_of(node, [pool]) == ("p" if tolerated else None)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    policy.describe(scene.state, ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=POOLS))
    return scene


def told(scene: Scene) -> dict[str, MachineSeen]:
    return {effect.seen.machine: effect.seen for effect in scene.tick() if isinstance(effect, TellMachine)}


def hear_node(scene: Scene, name: str = "ip-10-0-0-1.internal", **about: object) -> None:
    scene.hear(name="ip-1", pool=KUBE, isolation="pod", node={"name": name, **about})


def test_a_node_is_a_room_of_its_pool_under_its_own_name(scene: Scene) -> None:
    hear_node(scene, labels={"gpu": "yes"}, taints=[{"key": "gpu"}])
    (seen,) = told(scene).values()
    assert (seen.pool, seen.node, seen.isolation) == ("gpu", "ip-10-0-0-1.internal", "pod")


def test_a_node_of_no_pool_is_no_room(scene: Scene) -> None:
    hear_node(scene, labels={"type": "virtual-kubelet"})
    assert told(scene) == {}


def test_a_serverless_pool_has_room_up_to_its_limit_while_its_controller_is_heard(scene: Scene) -> None:
    scene.hear(name=KUBE, pool=KUBE, isolation="pod", allocatable={"cpu_millis": 0, "memory_bytes": 0, "disk_bytes": 0})
    seen = told(scene)
    assert set(seen) == {KUBE, "serverless-eci"}
    assert (seen["serverless-eci"].pool, seen["serverless-eci"].allocatable) == ("eci", LIMIT)
    scene.now += 60
    assert told(scene)["serverless-eci"].state == "lost"


def test_what_may_be_had_of_a_serverless_pool_is_not_counted_as_capacity(scene: Scene) -> None:
    scene.hear(name=KUBE, pool=KUBE, isolation="pod")
    hear_node(scene)
    assert set(counting.capacity(scene.state)) == {("c", "any")}


def test_what_was_told_of_a_node_is_known_after_a_restart(scene: Scene) -> None:
    hear_node(scene)
    (seen,) = told(scene).values()
    again = Scene()
    policy.restore(again.state, seen, 7, again.now)
    assert again.state.machines["c", "ip-1"].picture.node == "ip-10-0-0-1.internal"
