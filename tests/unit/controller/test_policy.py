"""What the controller does about orders and pods, by tables."""

from dataclasses import replace
from typing import Any

import pytest

from runner.agent.model import Key
from runner.controller.model import ContainerSeen, PodSeen
from runner.controller.policy import Claim, Delete, Reap, Rules, Tell, View, marks, reconcile
from shared.facts.order import Desired, Order
from shared.lifecycle import Reason
from tests.kube.pod_plans import NEEDS

KEY = Key("acme", "j1", 1)
RULES = Rules()


def order(key: Key = KEY, desired: Desired = Desired.RUN) -> Order:
    return Order(
        tenant=key.tenant,
        job=key.job,
        epoch=key.epoch,
        cluster="c1",
        target="kube",
        desired=desired,
        needs=NEEDS,
        on_lost="rerun",
        fence_seconds=30,
        timeout_seconds=60,
        term=1,
    )


def pod(key: Key = KEY, **changes: Any) -> PodSeen:
    seen = PodSeen(key, "ns", f"uid-{key.epoch}", "Running", 0.0, "node-1", steps={"step-1": (1,), "step-2": (2, 3)})
    return replace(seen, **changes)


def view(*orders: Order, pods: tuple[PodSeen, ...] = (), **changes: Any) -> View:
    made = View(
        orders={Key.of(each): each for each in orders},
        complete=True,
        pods={each.key: each for each in pods},
        listed=True,
    )
    return replace(made, **changes)


def effects(seen: View) -> list[Any]:
    return list(reconcile(seen))


def test_an_order_without_a_pod_is_claimed_once() -> None:
    assert effects(view(order())) == [Claim(order())]
    assert effects(view(order(), claiming=frozenset({KEY}))) == []
    assert effects(view(order(), pods=(pod(),))) == []


def test_a_pod_made_by_us_whose_news_has_not_come_yet_is_not_claimed_again() -> None:
    assert effects(view(order(), claimed=frozenset({KEY}))) == []


def test_a_pod_that_is_gone_is_told_when_the_watch_had_time_to_show_it() -> None:
    claimed = {"claimed": frozenset({KEY}), "missing_at": {KEY: 0.0}}
    assert effects(view(order(), now=RULES.missing_seconds - 1, **claimed)) == []
    (tell,) = effects(view(order(), now=RULES.missing_seconds, **claimed))
    assert tell.ending.reason is Reason.RUNNER_LOST
    assert effects(view(order(), now=RULES.missing_seconds, listed=False, **claimed)) == []


@pytest.mark.parametrize(("desired", "reason"), [(Desired.CANCEL, Reason.CANCELLED), (Desired.TIMEOUT, Reason.TIMEOUT)])
def test_what_never_began_and_is_not_wanted_is_told_as_over(desired: Desired, reason: Reason) -> None:
    (tell,) = effects(view(order(desired=desired)))
    assert tell.ending.reason is reason
    assert effects(view(order(desired=desired), told=frozenset({KEY}))) == []


def test_step_ctl_has_its_time_to_end_a_cancelled_attempt_before_the_pod_goes() -> None:
    seen = view(order(desired=Desired.CANCEL), pods=(pod(),), ordered_at={KEY: 0.0})
    patience = seen.grace_seconds + RULES.obey_seconds
    assert effects(replace(seen, now=patience - 1)) == []
    tell, delete = effects(replace(seen, now=patience))
    assert (tell.ending.outcome, delete.why) == ("cancelled", "cancel")


def test_a_pod_of_an_older_epoch_goes_and_tells_nothing() -> None:
    newer = replace(KEY, epoch=2)
    assert effects(view(order(newer), pods=(pod(),))) == [Delete(pod(), "stale"), Claim(order(newer))]


def test_nothing_is_claimed_before_the_pods_are_known() -> None:
    assert effects(view(order(), listed=False)) == []


def test_an_order_for_another_protocol_is_refused() -> None:
    (tell,) = effects(view(order().model_copy(update={"protocol": 9})))
    assert tell.ending.reason is Reason.REFUSED


def test_a_pod_whose_job_is_over_lingers_to_store_its_logs_and_not_for_ever() -> None:
    seen = view(pods=(pod(),), ordered_at={KEY: 0.0})
    assert effects(replace(seen, now=RULES.linger_seconds - 1)) == []
    assert effects(replace(seen, now=RULES.linger_seconds)) == [Delete(pod(), "not wanted any more")]
    assert effects(replace(seen, now=RULES.linger_seconds, complete=False)) == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over_is_told_as_an_error_unless_its_step_ctl_told_and_goes_only_then(phase: Any) -> None:
    over = pod(phase=phase)
    seen = view(order(), pods=(over,), marked_at={(KEY, "over"): 0.0}, now=RULES.keep_seconds)
    (tell,) = effects(seen)
    assert (tell.ending.outcome, tell.ending.reason) == ("error", Reason.RUNNER_LOST)
    assert effects(replace(seen, telling=frozenset({KEY}))) == []
    told = replace(seen, told=frozenset({KEY}))
    assert effects(told) == [Reap(over)]
    assert effects(replace(told, now=RULES.keep_seconds - 1)) == []


def test_a_cancelled_pod_that_has_no_node_yet_goes_at_once() -> None:
    pending = pod(phase="Pending", node=None)
    tell, delete = effects(view(order(desired=Desired.CANCEL), pods=(pending,)))
    assert (tell.ending.outcome, delete) == ("cancelled", Delete(pending, "cancel"))


def waiting(reason: str, name: str = "step-1") -> tuple[ContainerSeen, ...]:
    return (ContainerSeen(name, "waiting", reason, "no such thing"),)


@pytest.mark.parametrize(
    ("changes", "outcome", "reason", "step"),
    [
        ({"containers": waiting("ErrImagePull")}, "error", Reason.IMAGE_PULL, 1),
        ({"containers": waiting("ImagePullBackOff", "step-2")}, "error", Reason.IMAGE_PULL, None),
        ({"containers": waiting("CreateContainerConfigError")}, "error", Reason.SETUP_FAILED, 1),
        ({"reason": "Evicted"}, "error", Reason.EVICTED, None),
        ({"reason": "EvictionByEvictionAPI"}, "error", Reason.EVICTED, None),
        ({"reason": "DeletionByTaintManager"}, "error", Reason.MACHINE_LOST, None),
        ({"reason": "NodeLost", "phase": "Unknown"}, "error", Reason.MACHINE_LOST, None),
        ({"reason": "DeadlineExceeded", "phase": "Failed"}, "timed_out", Reason.TIMEOUT, None),
        (
            {"containers": (ContainerSeen("step-1", "terminated", "OOMKilled", "", 137),)},
            "failed",
            Reason.OUT_OF_MEMORY,
            1,
        ),
        (
            {"containers": (ContainerSeen("step-1", "running", last_reason="OOMKilled", last_exit_code=137),)},
            "failed",
            Reason.OUT_OF_MEMORY,
            1,
        ),
        (
            {"containers": (ContainerSeen("step-1", "terminated", "StartError", "no such file", 128),)},
            "error",
            Reason.SETUP_FAILED,
            1,
        ),
        (
            {"containers": (ContainerSeen("step-1", "waiting", "CrashLoopBackOff", last_exit_code=1),)},
            "error",
            Reason.SETUP_FAILED,
            1,
        ),
        (
            {"containers": (ContainerSeen("step-1", "waiting", "CrashLoopBackOff", restarts=1, last_exit_code=70),)},
            "error",
            Reason.SETUP_FAILED,
            1,
        ),
    ],
)
def test_each_trouble_has_its_name_and_its_step(
    changes: dict[str, Any], outcome: str, reason: Reason, step: int | None
) -> None:
    seen = pod(**changes)
    tell, *deletes = effects(view(order(), pods=(seen,)))
    assert isinstance(tell, Tell)
    assert (tell.ending.outcome, tell.ending.reason, tell.ending.step) == (outcome, reason, step)
    assert [delete.pod for delete in deletes] == ([] if seen.over else [seen])


@pytest.mark.parametrize(
    "container",
    [
        ContainerSeen("step-1", "terminated", "OOMKilled", "", 0),
        ContainerSeen("step-1", "waiting", "ContainerCreating"),
        ContainerSeen("step-1", "waiting", "PodInitializing"),
        ContainerSeen("step-ctl", "running", last_reason="OOMKilled", last_exit_code=137),
        ContainerSeen("step-1", "waiting", "CrashLoopBackOff", last_reason="Error", last_exit_code=70),
        ContainerSeen("step-1", "waiting", "CrashLoopBackOff", restarts=2, last_reason="Error", last_exit_code=137),
        ContainerSeen("step-ctl", "waiting", "CrashLoopBackOff", restarts=2, last_reason="Error", last_exit_code=1),
    ],
)
def test_what_may_still_go_well_is_left_alone(container: ContainerSeen) -> None:
    assert effects(view(order(), pods=(pod(containers=(container,)),))) == []


def test_a_pod_no_node_takes_is_handed_back_after_a_bound() -> None:
    pending = pod(phase="Pending", node=None, unschedulable="0/3 nodes: insufficient cpu")
    seen = view(order(), pods=(pending,), marked_at={(KEY, "unschedulable"): 0.0})
    assert effects(replace(seen, now=RULES.unschedulable_seconds - 1)) == []
    tell, _ = effects(replace(seen, now=RULES.unschedulable_seconds))
    assert tell.ending.reason is Reason.UNSCHEDULABLE
    assert "insufficient cpu" in tell.ending.message


def test_a_pod_that_somebody_deletes_is_left_to_end_by_itself() -> None:
    assert effects(view(order(), pods=(pod(deleting=True),))) == []
    assert effects(view(order(), pods=(pod(deleting=True, reason="Evicted"),), told=frozenset({KEY}))) == []


def test_a_pod_whose_node_does_not_confirm_its_end_is_gone_after_its_grace() -> None:
    deleted = pod(deleting=True, deletion_grace_seconds=30.0)
    bound = 30.0 + RULES.vanish_seconds
    seen = view(order(), pods=(deleted,), marked_at={(KEY, "deleting"): 0.0})
    assert effects(replace(seen, now=bound - 1)) == []
    (tell,) = effects(replace(seen, now=bound))
    assert tell.ending.reason is Reason.RUNNER_LOST
    assert effects(replace(seen, now=bound, told=frozenset({KEY}))) == [Reap(deleted)]


def test_a_pod_deleted_before_it_had_a_node_is_gone_at_once() -> None:
    deleted = pod(phase="Pending", node=None, deleting=True)
    (tell,) = effects(view(order(), pods=(deleted,)))
    assert "deleted" in tell.ending.message


def test_what_lasts_is_marked() -> None:
    assert set(marks(pod(phase="Failed", deleting=True, unschedulable="no"))) == {"over", "deleting"}
    assert set(marks(pod(phase="Pending", unschedulable="no"))) == {"unschedulable"}
