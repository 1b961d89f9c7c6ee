"""From orders and pods to effects. Pure.

An order says what should be; the list of pods says what is. A pod whose step-ctl has ended well has told all; any other
end is told here, once, and whoever told it before has the say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runner.agent.model import Key
from runner.controller.model import ContainerSeen, PodSeen, Trouble
from runner.controller.pods import trouble
from shared.facts.attempt import Outcome
from shared.facts.order import Desired, Order
from shared.lifecycle import Reason


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers decisions depend on, seconds."""

    unschedulable_seconds: float = 120.0
    """A pod without a node for so long is handed back to the scheduler, with why."""
    obey_seconds: float = 30.0
    """Beyond the steps' grace: step-ctl has it from the bus itself, and has ended all by then."""
    linger_seconds: float = 600.0
    """A pod whose job is over may go on so long: it still stores its logs."""
    missing_seconds: float = 30.0
    """A pod that was there and is not any more: the watch may be behind the orders by this much."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as seen from outside of its pod."""

    outcome: Outcome
    reason: Reason
    message: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    order: Order


@dataclass(frozen=True, slots=True)
class Tell:
    """The attempt is over, for this reason, unless somebody told its end before."""

    key: Key
    ending: Ending


@dataclass(frozen=True, slots=True)
class Delete:
    """The pod and its secret. `grace_seconds` None: the pod's own."""

    key: Key
    uid: str
    why: str
    grace_seconds: int | None = None


Effect = Claim | Tell | Delete


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made from. Instants are monotonic seconds."""

    orders: Mapping[Key, Order]
    complete: bool
    """`orders` holds all that stand."""
    pods: Mapping[Key, PodSeen]
    listed: bool
    """`pods` holds all that are there."""
    claiming: frozenset[Key] = frozenset()
    claimed: frozenset[Key] = frozenset()
    """Their pods were made by us, or found."""
    told: frozenset[Key] = frozenset()
    ordered_at: Mapping[Key, float] = field(default_factory=dict)
    """Since when each order wants what it wants now, or, of one that is gone, since when it is."""
    missing_at: Mapping[Key, float] = field(default_factory=dict)
    """Since when a claimed attempt has no pod."""
    grace_seconds: float = 10.0
    now: float = 0.0
    now_unix: float = 0.0
    rules: Rules = Rules()


def reconcile(view: View) -> Iterator[Effect]:
    """What is to be done now; ends come before new pods."""
    newest: dict[tuple[str, str], int] = {}
    for key in (*view.orders, *view.pods):
        newest[key.tenant, key.job] = max(key.epoch, newest.get((key.tenant, key.job), 0))
    for key in sorted(view.pods):
        yield from _for_pod(view, view.pods[key], newest[key.tenant, key.job])
    for key, order in sorted(view.orders.items(), key=lambda item: item[0]):
        if key not in view.pods and key not in view.claiming and key.epoch == newest[key.tenant, key.job]:
            yield from _without_pod(view, order)


def _for_pod(view: View, pod: PodSeen, newest: int) -> Iterator[Effect]:
    if pod.phase == "Succeeded":
        yield Delete(pod.key, pod.uid, "done", grace_seconds=0)
        return
    found = trouble(pod)
    if found is not None and (found[0] != "unschedulable" or _waited_too_long(view, pod)):
        ending = ending_of(pod, *found)
        yield from _tell(view, pod.key, ending)
        yield from _delete(pod, ending.reason.value)
    elif pod.over:
        yield from _tell(view, pod.key, Ending("error", Reason.RUNNER_LOST, _ends(pod)))
        yield Delete(pod.key, pod.uid, "failed", grace_seconds=0)
    elif pod.deleting:
        return  # somebody wants it gone: its step-ctl tells why, or its end does
    elif pod.key.epoch < newest:
        yield from _delete(pod, "stale")
    else:
        yield from _by_order(view, pod)


def _by_order(view: View, pod: PodSeen) -> Iterator[Effect]:
    order, since = view.orders.get(pod.key), view.ordered_at.get(pod.key, view.now)
    if order is None:
        if view.complete and view.now - since >= view.rules.linger_seconds:
            yield from _delete(pod, "not wanted any more")
        return
    if order.desired not in (Desired.CANCEL, Desired.TIMEOUT):
        return
    if view.now - since < view.grace_seconds + view.rules.obey_seconds:
        return
    yield from _tell(view, pod.key, _wanted_end(order, "its step-ctl did not end it in time"))
    yield from _delete(pod, order.desired.value)


def _without_pod(view: View, order: Order) -> Iterator[Effect]:
    key = Key.of(order)
    if key in view.told:
        return
    if order.desired in (Desired.CANCEL, Desired.TIMEOUT):
        if key not in view.claimed:
            yield Tell(key, _wanted_end(order, "it was not begun"))
            return
    elif key not in view.claimed:
        yield Claim(order)
        return
    since = view.missing_at.get(key)
    if view.listed and since is not None and view.now - since >= view.rules.missing_seconds:
        yield Tell(key, Ending("error", Reason.RUNNER_LOST, "its pod is gone, and nobody told how it ended"))


def _tell(view: View, key: Key, ending: Ending) -> Iterator[Effect]:
    if key not in view.told:
        yield Tell(key, ending)


def _delete(pod: PodSeen, why: str) -> Iterator[Effect]:
    if not pod.deleting:
        yield Delete(pod.key, pod.uid, why)


def _waited_too_long(view: View, pod: PodSeen) -> bool:
    return view.now_unix - pod.created_unix >= view.rules.unschedulable_seconds


def _wanted_end(order: Order, note: str) -> Ending:
    if order.desired is Desired.CANCEL:
        return Ending("cancelled", Reason.CANCELLED, note)
    return Ending("timed_out", Reason.TIMEOUT, note)


_TROUBLES: dict[Trouble, tuple[Outcome, Reason, str]] = {
    "image_pull": ("error", Reason.IMAGE_PULL, "the image of {what} can't be pulled: {why}"),
    "bad_command": ("error", Reason.SETUP_FAILED, "{what} could not be started: {why}"),
    "config": ("error", Reason.SETUP_FAILED, "{what} could not be made: {why}"),
    "unschedulable": ("error", Reason.UNSCHEDULABLE, "no node took the pod: {why}"),
    "evicted": ("error", Reason.EVICTED, "the pod was evicted: {why}"),
    "node_lost": ("error", Reason.MACHINE_LOST, "the node is gone: {why}"),
    "out_of_memory": ("failed", Reason.OUT_OF_MEMORY, "{what} ran out of memory: {why}"),
    "deadline": ("timed_out", Reason.TIMEOUT, "the pod's deadline has passed: {why}"),
    "gone": ("error", Reason.RUNNER_LOST, "the pod is gone: {why}"),
}


def ending_of(pod: PodSeen, found: Trouble, container: ContainerSeen | None) -> Ending:
    outcome, reason, text = _TROUBLES[found]
    steps = pod.steps.get(container.name, ()) if container is not None else ()
    what = f"step {steps[0]}" if len(steps) == 1 else container.name if container is not None else "the pod"
    told = (container.message or container.reason or container.last_reason) if container is not None else ""
    why = told or pod.unschedulable or pod.message or pod.reason or "Kubernetes says no more"
    message = " ".join(text.format(what=what, why=why).split())
    return Ending(outcome, reason, message[:500], steps[0] if len(steps) == 1 else None)


def _ends(pod: PodSeen) -> str:
    told = [f"{each.name}: {each.reason} ({each.exit_code})" for each in pod.containers if each.exit_code]
    return f"the pod ended as {pod.reason or pod.phase} and its step-ctl did not tell how: {', '.join(told)}"[:500]
