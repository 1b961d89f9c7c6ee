"""What is told of a pool as a whole."""

import pytest

from services.cluster_metrics import counting, policy
from services.cluster_metrics.model import TellCluster
from shared.facts.machine import NodeShape, PoolSeen
from shared.needs import GIB, Capacity
from shared.pods import KUBE
from shared.tenancy import ClusterRecord
from tests.unit.cluster_metrics.test_kubernetes import POOLS
from tests.unit.cluster_metrics.test_policy import Scene


def amount(cpu_millis: int, gib: int = 0) -> Capacity:
    return Capacity(cpu_millis=cpu_millis, memory_bytes=gib * GIB, disk_bytes=0)


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    policy.describe(scene.state, ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=POOLS))
    return scene


def hear(scene: Scene, name: str, whole: Capacity, requested: Capacity, **about: object) -> None:
    node = {"name": name, "allocatable": whole, "requested": requested, **about}
    scene.hear(name=name, pool=KUBE, isolation="pod", node=node, beat_seconds=24.0)


def pools(scene: Scene, seconds: float = 1.0) -> dict[str, PoolSeen]:
    (told,) = [effect.seen for effect in scene.tick(seconds) if isinstance(effect, TellCluster)]
    return {pool.pool: pool for pool in told.pools}


def test_what_is_requested_and_free_is_told_by_the_shape_of_nodes(scene: Scene) -> None:
    hear(scene, "a", amount(4000, 8), amount(1000, 2))
    hear(scene, "b", amount(4000, 8), amount(3500, 1))
    hear(scene, "c", amount(16_000, 64), amount(0))
    seen = pools(scene)["any"]
    assert seen.requested == amount(4500, 3)
    assert seen.shapes == [
        NodeShape(cpu_millis=4000, memory_bytes=8 * GIB, nodes=2, free=amount(3500, 13), roomiest=amount(3000, 6)),
        NodeShape(
            cpu_millis=16_000, memory_bytes=64 * GIB, nodes=1, free=amount(16_000, 64), roomiest=amount(16_000, 64)
        ),
    ]


def test_virtual_nodes_are_counted_for_their_pool_until_they_go_or_are_silent(scene: Scene) -> None:
    hear(scene, "vk-1", amount(10**6), amount(0), labels={"type": "virtual-kubelet"}, virtual=True)
    hear(scene, "vk-2", amount(10**6), amount(0), virtual=True)
    seen = pools(scene)
    assert (seen["eci"].virtual_nodes, seen["any"].machines) == (2, 0)
    scene.hear(name="vk-1", pool=KUBE, isolation="pod", leaving=True, node={"name": "vk-1", "virtual": True})
    assert pools(scene)["eci"].virtual_nodes == 1
    assert pools(scene, 121)["eci"].virtual_nodes == 0


def test_how_pods_fare_is_told_as_their_controller_says(scene: Scene) -> None:
    figures = {"pool": "any", "phases": {"Pending": 2, "Running": 5}, "pending": {"image_pull": 2}}
    scene.hear(name=KUBE, pool=KUBE, isolation="pod", pods=[figures])
    told = pools(scene)["any"].pods
    assert told is not None
    assert counting.pods(scene.state) == {("c", "any", "Pending"): 2, ("c", "any", "Running"): 5}
    assert counting.pending_pods(scene.state) == {("c", "any", "image_pull"): 2}
    assert (told.phases, told.pending) == ({"Pending": 2, "Running": 5}, {"image_pull": 2})


def test_however_often_things_change_a_summary_is_told_twice_a_second_and_its_version_grows(scene: Scene) -> None:
    versions = []
    for number in range(100):
        hear(scene, "a", amount(4000), amount(number))
        versions += [effect.seen.version for effect in scene.tick(0.05) if isinstance(effect, TellCluster)]
    assert versions == sorted(set(versions))
    assert 9 <= len(versions) <= 11
