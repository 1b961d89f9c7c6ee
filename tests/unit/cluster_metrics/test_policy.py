"""From beats to pictures."""

from typing import Any

import pytest

from services.cluster_metrics import policy
from services.cluster_metrics.model import Forget, State, TellCluster, TellMachine
from services.cluster_metrics.settings import Settings
from shared.errors import Poison
from shared.facts import MachineBeat
from shared.needs import GIB, Capacity
from shared.pods import KUBE, PodTemplate
from shared.tenancy import ClusterPool, ClusterRecord

SETTINGS = Settings()


def beat(name: str = "m", **about: object) -> MachineBeat:
    values: dict[str, object] = {
        "cluster": "c",
        "machine": name,
        "pool": "default",
        "session": "s1",
        "version": "1",
        "protocol": 1,
        "isolation": "process",
        "arch": "amd64",
        "allocatable": Capacity(cpu_millis=4000, memory_bytes=GIB, disk_bytes=GIB),
        "beat_seconds": 2.0,
        **about,
    }
    return MachineBeat.model_validate(values)


class Scene:
    def __init__(self) -> None:
        self.state, self.now = State(), 100.0

    def hear(self, **about: Any) -> bool:
        return policy.beat(self.state, beat(**about), self.now, int(self.now * 1e9), SETTINGS)

    def tick(self, seconds: float = 0.0) -> list[object]:
        self.now += seconds
        return list(policy.tick(self.state, self.now, int(self.now * 1e9), SETTINGS))

    def told(self, seconds: float = 0.0) -> list[tuple[str, int]]:
        """(state, version) of the machines told."""
        return [(e.seen.state, e.seen.version) for e in self.tick(seconds) if isinstance(e, TellMachine)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_new_machine_is_told_at_once_and_again_every_ten_seconds(scene: Scene) -> None:
    assert scene.hear()
    assert scene.told() == [("ready", 1)]
    assert not scene.hear()
    assert scene.told() == []
    for _ in range(4):
        scene.now += 2
        scene.hear()
        assert scene.told() == []
    scene.now += 2
    scene.hear()
    assert scene.told() == [("ready", 2)]


def test_a_node_that_does_not_change_is_told_again_once_in_its_own_longer_beat(scene: Scene) -> None:
    def hear() -> None:
        scene.hear(isolation="pod", pool=KUBE, node={"name": "m", "labels": {"pool": "any"}}, beat_seconds=24.0)

    pools = [ClusterPool(pool="any", kind="fixed", pod=PodTemplate(node_selector={"pool": "any"}))]
    policy.describe(scene.state, ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=pools))
    hear()
    assert scene.told() == [("ready", 1)]
    for _ in range(2):
        scene.now += 10
        hear()
        assert scene.told() == []
    assert scene.told(4) == [("ready", 2)]


def test_between_two_looks_at_all_machines_those_that_changed_are_told(scene: Scene) -> None:
    for name in ("a", "b"):
        scene.hear(name=name)
    scene.tick()
    scene.now += SETTINGS.tell_every_seconds - 0.1
    for name in ("a", "b"):
        scene.hear(name=name)
    assert scene.told() == []
    scene.now += 0.1  # both are old enough now, and it is too early to look at both
    scene.hear(name="b", draining=True)
    assert scene.told() == [("draining", 2)]
    assert scene.told(SETTINGS.tick_seconds) == [("ready", 2)]


def test_silence_of_five_beats_is_lost_and_a_beat_brings_it_back(scene: Scene) -> None:
    scene.hear()
    scene.tick()
    assert scene.told(9.9) == []
    assert scene.told(0.3) == [("lost", 2)]
    scene.hear()
    assert scene.told() == [("ready", 3)]


def test_nobody_is_lost_for_what_we_could_not_hear(scene: Scene) -> None:
    scene.hear()
    scene.tick()
    scene.now += 60
    policy.resume(scene.state, scene.now)
    assert scene.told() == [("ready", 2)]
    assert [state for state, _ in scene.told(10)] == ["lost"]


def test_a_machine_drains_and_takes_its_leave_in_order(scene: Scene) -> None:
    scene.hear()
    scene.tick()
    assert scene.hear(draining=True)
    assert scene.told() == [("draining", 2)]
    assert scene.hear(draining=True, leaving=True)
    assert scene.told() == [("gone", 3)]
    assert all(state == "gone" for state, _ in scene.told(100))


def test_a_restart_is_seen_though_no_beat_was_missed(scene: Scene) -> None:
    scene.hear()
    scene.tick()
    assert scene.hear(session="s2")
    assert scene.told() == [("ready", 2)]


def test_changes_of_attempts_alone_are_told_once_a_second(scene: Scene) -> None:
    scene.hear()
    scene.tick()
    for number in range(5):
        scene.now += 0.1
        assert not scene.hear(attempts=[{"tenant": "t", "job": f"j{number}", "epoch": 1}])
        assert scene.told() == []
    assert scene.told(0.6) == [("ready", 2)]


def test_versions_go_on_after_a_restart_of_ours(scene: Scene) -> None:
    scene.hear()
    (told,) = [effect for effect in scene.tick() if isinstance(effect, TellMachine)]
    again = Scene()
    policy.restore(again.state, told.seen, 7, again.now)
    assert again.told() == []
    again.hear(draining=True)
    (told,) = [effect for effect in again.tick() if isinstance(effect, TellMachine)]
    assert (told.seen.version, told.expect_seq) == (2, 7)


def test_the_summary_counts_machines_and_knows_the_kinds_of_pools(scene: Scene) -> None:
    pools = [ClusterPool(pool="cloud", kind="serverless")]
    policy.describe(scene.state, ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=pools))
    scene.hear(name="a")
    scene.hear(name="b", pool="cloud")
    scene.hear(name="d", draining=True)
    (summary,) = [effect.seen for effect in scene.tick() if isinstance(effect, TellCluster)]
    assert summary.machines_ready == 2
    assert [(pool.pool, pool.kind, pool.machines) for pool in summary.pools] == [
        ("cloud", "serverless", 1),
        ("default", "agents", 1),
    ]


def test_a_machine_long_gone_is_forgotten(scene: Scene) -> None:
    scene.hear(leaving=True)
    scene.tick()
    effects = scene.tick(SETTINGS.forget_seconds)
    assert Forget("c", "m") in effects
    assert scene.state.machines == {}


def test_more_machines_than_allowed_are_refused(scene: Scene) -> None:
    few = Settings(max_machines=1)
    policy.beat(scene.state, beat("a"), 1.0, 1, few)
    with pytest.raises(Poison, match="raise max_machines"):
        policy.beat(scene.state, beat("b"), 1.0, 1, few)
