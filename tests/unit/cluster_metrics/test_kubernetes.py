"""From a controller's beats to rooms in pools."""

from typing import Any

import pytest

from services.cluster_metrics import counting, policy
from services.cluster_metrics.model import TellCluster, TellMachine
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


class Cluster(Scene):
    """A controller that beats every ten seconds, for itself and one node, and is lost after 120."""

    def __init__(self) -> None:
        super().__init__()
        policy.describe(self.state, ClusterRecord(cluster="c", bus_urls=["nats://hub"], pools=POOLS))

    def hears(self) -> None:
        about: dict[str, Any] = {"isolation": "pod", "beat_seconds": 24.0, "suspect_seconds": 25.0}
        for name, node in ((KUBE, None), ("n1", NodeSeen(name="n1"))):
            self.hear(name=name, node=node, **about)

    def turns(self, seconds: float = 0.0) -> dict[str, str]:
        """States that are told now, of what has changed."""
        before = {name: machine.told_picture for (_, name), machine in self.state.machines.items()}
        told = [effect.seen for effect in self.tick(seconds) if isinstance(effect, TellMachine)]
        return {
            seen.machine: seen.state
            for seen in told
            if (picture := before[seen.machine]) is None or picture.state != seen.state
        }


ALL = (KUBE, "n1", "serverless-eci")


def test_a_cluster_is_suspect_after_two_silent_beats_ready_with_the_next_one_and_lost_when_none_comes() -> None:
    cluster = Cluster()
    cluster.hears()
    assert cluster.turns() == dict.fromkeys(ALL, "ready")
    assert cluster.turns(24.9) == {}
    assert cluster.turns(0.3) == dict.fromkeys(ALL, "suspect")
    cluster.hears()
    assert cluster.turns() == dict.fromkeys(ALL, "ready")
    assert cluster.turns(25.1) == dict.fromkeys(ALL, "suspect")
    assert cluster.turns(94.8) == {}
    assert cluster.turns(0.3) == dict.fromkeys(ALL, "lost")


def test_what_a_cluster_that_is_suspect_has_counts_as_nothing_to_give() -> None:
    cluster = Cluster()
    cluster.hears()
    cluster.tick()
    assert counting.capacity(cluster.state) != {}
    told = [effect.seen for effect in cluster.tick(30) if isinstance(effect, TellCluster)]
    assert (told[-1].machines_ready, told[-1].machines_lost, counting.capacity(cluster.state)) == (0, 0, {})


def test_a_cluster_that_drains_goes_on_draining_in_silence_until_it_is_lost() -> None:
    cluster = Cluster()
    cluster.hear(name="n1", node=NodeSeen(name="n1"), isolation="pod", draining=True, suspect_seconds=25.0)
    cluster.tick()
    assert cluster.turns(9) == {}


def test_a_restart_of_ours_gives_a_cluster_its_own_grace_not_an_agents() -> None:
    cluster = Cluster()
    cluster.hears()
    told = [effect.seen for effect in cluster.tick() if isinstance(effect, TellMachine)]
    again = Cluster()
    for seen in told:
        policy.restore(again.state, seen, 1, again.now)
    assert again.turns(24.9) == {}
    assert again.turns(0.3) == dict.fromkeys(ALL, "suspect")
    assert again.turns(94.7) == {}
    assert again.turns(0.3) == dict.fromkeys(ALL, "lost")


def test_an_agent_and_an_older_controller_are_never_suspect(scene_of_one: Scene) -> None:
    told = [effect.seen.state for _ in range(30) for effect in scene_of_one.tick(1) if isinstance(effect, TellMachine)]
    assert set(told) == {"ready", "lost"}


@pytest.fixture
def scene_of_one() -> Scene:
    scene = Scene()
    scene.hear()
    return scene
