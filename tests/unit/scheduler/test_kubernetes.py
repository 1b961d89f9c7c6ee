"""Jobs on a Kubernetes cluster: rooms are its nodes, orders go to its controller."""

import pytest

from services.scheduler.model import ClusterKnown, Key
from shared.facts import Desired
from shared.lifecycle import JobState, Reason
from shared.needs import Capacity
from shared.pods import KUBE
from shared.tenancy import ClusterPool, ClusterRecord
from tests.unit.scheduler.town import Town, machine, record

NOTHING = Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0)
POOLS = [ClusterPool(pool="fixed", kind="fixed"), ClusterPool(pool="eci", kind="serverless")]


@pytest.fixture
def town() -> Town:
    """Two nodes of four cores, and serverless room for more."""
    town = Town()
    town.hear(ClusterKnown("c", ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=POOLS)))
    town.see(machine(KUBE, isolation="pod", pool=KUBE, allocatable=NOTHING))
    for name in ("n1", "n2"):
        town.see(machine(name, isolation="pod", pool="fixed", node=f"{name}.internal"))
    town.see(machine("serverless-eci", isolation="pod", pool="eci", cpus=64))
    return town


def submit(town: Town, name: str, cpus: float = 4, **about: object) -> Key:
    key = town.submit(record(name, cpus=cpus, isolation="container", **about))
    town.settle()
    return key


def rooms(town: Town, *keys: Key) -> list[str | None]:
    placements = [town.record(key).placement for key in keys]
    return [None if placement is None else placement.room for placement in placements]


def test_a_job_takes_room_of_a_node_and_its_order_goes_to_the_controller(town: Town) -> None:
    key = submit(town, "j")
    placement = town.record(key).placement
    assert placement is not None
    assert (placement.target, placement.room, placement.node, placement.pool) == (KUBE, "n1", "n1.internal", "fixed")
    assert town.desired(key) == {KUBE: (1, Desired.RUN)}
    ((order, _),) = town.orders.values()
    assert order.node == "n1.internal"


def test_what_fits_no_node_spills_to_the_serverless_pool_and_no_sooner(town: Town) -> None:
    keys = [submit(town, f"j{number}", cpus=3) for number in range(3)]
    assert rooms(town, *keys) == ["n1", "n2", "serverless-eci"]
    small = submit(town, "small", cpus=1)
    assert rooms(town, small) == ["n1"]


def test_a_serverless_pool_s_limit_holds(town: Town) -> None:
    keys = [submit(town, f"j{number}", cpus=32, runs_on=["eci"]) for number in range(3)]
    assert rooms(town, *keys) == ["serverless-eci", "serverless-eci", None]


def test_room_is_free_again_when_the_attempt_is_over(town: Town) -> None:
    first = submit(town, "first")
    assert town.accept(first)
    town.end(first)
    town.settle()
    assert town.record(first).state is JobState.SUCCEEDED
    assert rooms(town, submit(town, "second")) == ["n1"]


def test_a_pod_no_node_took_is_tried_elsewhere(town: Town) -> None:
    key = submit(town, "j")
    town.accept(key)
    town.end(key, "error", Reason.UNSCHEDULABLE, None)
    town.settle()
    town.settle(60)
    assert rooms(town, key) == ["n2"]
    assert town.desired(key) == {KUBE: (2, Desired.RUN)}
    assert [past.room for past in town.record(key).past_attempts] == ["n1"]


def test_a_node_s_loss_ends_nothing_since_the_pod_may_be_on_another(town: Town) -> None:
    key = submit(town, "j")
    town.accept(key)
    town.see(machine("n1", version=2, state="lost", isolation="pod", pool="fixed"))
    town.settle(1)
    assert town.record(key).state is JobState.PLACED
    assert town.ends == {}


def test_pods_are_missed_by_their_controller_and_nobody_else(town: Town) -> None:
    key = submit(town, "j")
    town.accept(key)
    for version in range(2, 6):
        town.see(machine("n1", version=version, isolation="pod", pool="fixed"))
        town.settle(60)
    assert town.ends == {}


def test_a_lost_cluster_s_jobs_run_elsewhere(town: Town) -> None:
    key = submit(town, "j")
    town.accept(key)
    town.see(machine(KUBE, version=2, state="lost", isolation="pod", pool=KUBE, allocatable=NOTHING))
    town.settle()
    assert town.record(key).past_attempts[0].reason is Reason.MACHINE_LOST


def test_a_new_leader_finds_the_rooms_taken_as_they_were(town: Town) -> None:
    keys = [submit(town, f"j{number}", cpus=3) for number in range(3)]
    town.new_leader()
    town.hear(ClusterKnown("c", ClusterRecord(cluster="c", bus_urls=["nats://x"], pools=POOLS)))
    town.settle()
    assert rooms(town, *keys) == ["n1", "n2", "serverless-eci"]
    assert {target.machine for target in town.state.fleet.reservations} == {"n1", "n2", "serverless-eci"}
