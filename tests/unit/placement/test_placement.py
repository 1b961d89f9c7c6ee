"""Where a job may run, where it should, and what is said when it can't."""

import pytest

from shared.needs import GIB
from shared.placement import Amount, Fleet, Machine, Target, Want, Why, explain


def machine(name: str = "m", cpus: float = 4, **about: object) -> Machine:
    values: dict[str, object] = {
        "target": Target("office", name),
        "pool": "default",
        "kind": "agents",
        "state": "ready",
        "isolation": "process",
        "words": frozenset({"office", "default", name, "amd64", "process", "linux"}),
        "allocatable": Amount(int(cpus * 1000), 64 * GIB, 100 * GIB),
        **about,
    }
    return Machine(**values)  # type: ignore[arg-type]


def want(cpus: float = 1, *runs_on: str, **about: object) -> Want:
    values: dict[str, object] = {"tenant": "t", "containers": False, **about}
    return Want(needs=Amount(int(cpus * 1000), GIB, GIB), runs_on=frozenset(runs_on), **values)  # type: ignore[arg-type]


def fleet(*machines: Machine) -> Fleet:
    made = Fleet()
    for one in machines:
        made.put(one)
    return made


@pytest.mark.parametrize("words", [("office",), ("default",), ("m",), ("linux", "amd64"), ("process",), ()])
def test_runs_on_names_a_pool_a_cluster_a_machine_or_labels_that_must_all_be_there(words: tuple[str, ...]) -> None:
    assert fleet(machine()).choose(want(1, *words)) == Target("office", "m")


@pytest.mark.parametrize(
    ("wanted", "there", "why", "says"),
    [
        (want(1, "gpu"), machine(), Why.RUNS_ON, "no such pool, cluster or label: gpu; you have pools default"),
        (want(8), machine(), Why.TOO_BIG, "needs 8 cores, the largest machine has 4"),
        (
            want(1, containers=True),
            machine(),
            Why.NEEDS_CONTAINERS,
            "use a pool with isolation podman or containerd, or drop image",
        ),
        (want(1, namespace="team"), machine(), Why.NEEDS_NAMESPACE, "drop namespace"),
        (want(1), machine(state="draining"), Why.DRAINING, "draining"),
        (want(1), machine(state="lost"), Why.LOST, "see to the agent"),
        (want(1), machine(state="gone"), Why.GONE, "start it again"),
        (want(1), machine(state="suspect"), Why.SUSPECT, "cluster-metrics"),
        (want(1), machine(protocol=99), Why.OLD_PROTOCOL, "protocol"),
        (want(1), machine(tenants=frozenset({"x"})), Why.NOT_SERVED, "other tenants"),
    ],
)
def test_every_reason_has_a_code_and_a_sentence_that_names_the_remedy(
    wanted: Want, there: Machine, why: Why, says: str
) -> None:
    them = fleet(there)
    told = explain(wanted, them)
    assert them.choose(wanted) is why
    assert told.code is why
    assert says in told.detail
    assert told.candidates["office/m"]


def test_without_machines_the_reason_is_that_there_are_none() -> None:
    assert explain(want(), Fleet()).code is Why.NO_MACHINES


def test_the_reason_that_binds_is_that_of_the_nearest_machine() -> None:
    them = fleet(machine("a", 1), machine("b", state="lost"), machine("c", 8))
    them.reserve(Target("office", "c"), Amount(8000, 0, 0))
    assert them.choose(want(4)) is Why.BUSY


def test_the_best_fit_is_the_machine_with_least_left_over() -> None:
    them = fleet(machine("big", 16), machine("snug", 2), machine("mid", 4))
    assert them.choose(want(2)) == Target("office", "snug")
    them.reserve(Target("office", "snug"), Amount(1000, 0, 0))
    assert them.choose(want(2)) == Target("office", "mid")


def test_equal_machines_are_taken_in_the_order_of_their_names() -> None:
    assert fleet(machine("b"), machine("a"), machine("c")).choose(want()) == Target("office", "a")


def test_what_is_paid_by_use_comes_after_what_is_there_anyhow() -> None:
    them = fleet(machine("cloud", 2, kind="serverless"), machine("own", 64))
    assert them.choose(want(2)) == Target("office", "own")
    them.reserve(Target("office", "own"), Amount(64_000, 0, 0))
    assert them.choose(want(2)) == Target("office", "cloud")


def test_where_it_went_wrong_is_used_again_only_without_alternative() -> None:
    avoiding = want(avoid=frozenset({Target("office", "a")}))
    assert fleet(machine("a"), machine("b")).choose(avoiding) == Target("office", "b")
    assert fleet(machine("a")).choose(avoiding) == Target("office", "a")
    assert fleet(machine("a"), machine("b", state="lost")).choose(avoiding) == Target("office", "a")


def test_a_held_machine_takes_only_the_want_it_is_held_for() -> None:
    them, large = fleet(machine()), want(4)
    them.hold(Target("office", "m"), large)
    assert them.choose(want(1)) is Why.HELD
    assert them.choose(large) == Target("office", "m")
    assert them.unhold(large)
    assert them.choose(want(1)) == Target("office", "m")


def test_reservations_outlive_a_machine_that_comes_and_goes() -> None:
    them = fleet(machine())
    them.reserve(Target("office", "m"), Amount(4000, 0, 0))
    them.drop(Target("office", "m"))
    them.put(machine())
    assert them.choose(want(1)) is Why.BUSY
    them.release(Target("office", "m"), Amount(4000, 0, 0))
    assert them.choose(want(1)) == Target("office", "m")
    assert them.reservations == {}


def test_a_cluster_s_controller_is_no_machine_that_lacks_cores() -> None:
    controller = machine("kube", 0, isolation="pod")
    told = explain(want(8), fleet(controller, machine("node-1", 4, isolation="pod")))
    assert (told.code, set(told.candidates)) == (Why.TOO_BIG, {"office/node-1"})
    assert "the largest machine has 4" in told.detail
