"""From orders and pods to effects. Pure.

An order says what should be; the list of pods says what is. A pod stays, by its finalizer, until its attempt's end is
told: by its own step-ctl, which knows most, or else from here, once. So a pod that is not there was never made, or is
over and told, and any instance goes on where another was killed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from runner.agent.model import Key
from runner.controller.model import ContainerSeen, PodSeen, Trouble
from runner.controller.pods import trouble
from runner.protocol.directory import PROTOCOL
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
    vanish_seconds: float = 15.0
    """Beyond its own grace a pod that is being deleted is gone: its node doesn't answer."""
    keep_seconds: float = 10.0
    """A pod that is over stays so long. Longer than a lease: who led before us and slept finds its name taken."""


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
    """The pod, with its own grace: its step-ctl ends the steps and stores their logs."""

    pod: PodSeen
    why: str


@dataclass(frozen=True, slots=True)
class Reap:
    """The pod's secret and what is left of the pod: nothing of it runs, and all is told."""

    pod: PodSeen


Effect = Claim | Tell | Delete | Reap
Mark = Literal["unschedulable", "deleting", "over"]
MARKS: tuple[Mark, ...] = ("unschedulable", "deleting", "over")


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
    telling: frozenset[Key] = frozenset()
    ordered_at: Mapping[Key, float] = field(default_factory=dict)
    """Since when each order wants what it wants now, or, of one that is gone, since when it is."""
    missing_at: Mapping[Key, float] = field(default_factory=dict)
    """Since when a claimed attempt has no pod."""
    marked_at: Mapping[tuple[Key, Mark], float] = field(default_factory=dict)
    """Since when a pod has been seen so. By our own clock: the cluster's may differ."""
    grace_seconds: float = 10.0
    now: float = 0.0
    rules: Rules = Rules()

    def since(self, pod: PodSeen, mark: Mark) -> float:
        return self.now - self.marked_at.get((pod.key, mark), self.now)


def marks(pod: PodSeen) -> Iterator[Mark]:
    """What of a pod counts by how long it lasts."""
    if pod.over:
        yield "over"
    if pod.deleting:
        yield "deleting"
    if pod.unschedulable is not None and not pod.over:
        yield "unschedulable"


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
    gone = pod.over or _has_vanished(view, pod)
    ending = _end_of(view, pod, gone=gone)
    if ending is not None:
        yield from _tell(view, pod.key, ending)
    if gone:
        if pod.key in view.told and (not pod.over or view.since(pod, "over") >= view.rules.keep_seconds):
            yield Reap(pod)
    elif pod.deleting:
        return  # its step-ctl tells how it ended, or its end does
    elif ending is not None:
        yield Delete(pod, ending.reason.value)
    elif pod.key.epoch < newest:
        yield Delete(pod, "stale")
    else:
        yield from _by_order(view, pod)


def _has_vanished(view: View, pod: PodSeen) -> bool:
    if not pod.deleting:
        return False
    bound = pod.deletion_grace_seconds + view.rules.vanish_seconds
    return pod.node is None or view.since(pod, "deleting") >= bound


def _end_of(view: View, pod: PodSeen, *, gone: bool) -> Ending | None:
    found = trouble(pod)
    if pod.phase == "Succeeded":
        return Ending("error", Reason.RUNNER_LOST, "the pod ended well, and nobody told how its job did")
    if found is not None and found[0] == "unschedulable":
        if not gone and view.since(pod, "unschedulable") < view.rules.unschedulable_seconds:
            return None
        found = None if gone else found
    if found is not None:
        return ending_of(pod, *found)
    if pod.over and not pod.deleting:
        return Ending("error", Reason.RUNNER_LOST, _ends(pod))
    if gone:
        return Ending("error", Reason.RUNNER_LOST, "somebody deleted its pod")
    return None


def _by_order(view: View, pod: PodSeen) -> Iterator[Effect]:
    order, since = view.orders.get(pod.key), view.ordered_at.get(pod.key, view.now)
    if order is None:
        if view.complete and view.now - since >= view.rules.linger_seconds:
            yield Delete(pod, "not wanted any more")
        return
    if order.desired not in (Desired.CANCEL, Desired.TIMEOUT):
        return
    begun = pod.node is not None
    if begun and view.now - since < view.grace_seconds + view.rules.obey_seconds:
        return
    note = "its step-ctl did not end it in time" if begun else "it was not begun"
    yield from _tell(view, pod.key, _wanted_end(order, note))
    yield Delete(pod, order.desired.value)


def _without_pod(view: View, order: Order) -> Iterator[Effect]:
    key = Key.of(order)
    if key in view.told or not view.listed:
        return
    if key not in view.claimed:
        if order.desired in (Desired.CANCEL, Desired.TIMEOUT):
            yield from _tell(view, key, _wanted_end(order, "it was not begun"))
        elif order.protocol != PROTOCOL:
            why = f"the order asks for runner protocol {order.protocol}, this controller speaks {PROTOCOL}: update it"
            yield from _tell(view, key, Ending("error", Reason.REFUSED, why))
        elif key not in view.telling:
            yield Claim(order)
        return
    since = view.missing_at.get(key)
    if since is not None and view.now - since >= view.rules.missing_seconds:
        why = "its pod is gone, and nobody told how it ended"
        yield from _tell(view, key, Ending("error", Reason.RUNNER_LOST, why))


def _tell(view: View, key: Key, ending: Ending) -> Iterator[Effect]:
    if key not in view.told and key not in view.telling:
        yield Tell(key, ending)


def _wanted_end(order: Order, note: str) -> Ending:
    if order.desired is Desired.CANCEL:
        return Ending("cancelled", Reason.CANCELLED, note)
    return Ending("timed_out", Reason.TIMEOUT, note)


MIB = 2**20
_NO_ENTRYPOINT = (
    "{what} could not be begun: its container ended with {code}; are its node's processors those of the entrypoint?"
)
_TROUBLES: dict[Trouble, tuple[Outcome, Reason, str]] = {
    "image_pull": ("error", Reason.IMAGE_PULL, "the image of {what} can't be pulled: {why}"),
    "bad_command": ("error", Reason.SETUP_FAILED, "{what} could not be started: {why}"),
    "no_entrypoint": ("error", Reason.SETUP_FAILED, _NO_ENTRYPOINT),
    "config": ("error", Reason.SETUP_FAILED, "{what} could not be made: {why}"),
    "unschedulable": ("error", Reason.UNSCHEDULABLE, "no node took the pod: {why}"),
    "evicted": ("error", Reason.EVICTED, "the pod was evicted: {why}"),
    "node_lost": ("error", Reason.MACHINE_LOST, "the node is gone: {why}"),
    "out_of_memory": ("failed", Reason.OUT_OF_MEMORY, "{what} ran out of memory: at its peak, all of its {limit}"),
    "deadline": ("timed_out", Reason.TIMEOUT, "the pod's deadline has passed: {why}"),
    "gone": ("error", Reason.RUNNER_LOST, "the pod is gone: {why}"),
}


def ending_of(pod: PodSeen, found: Trouble, container: ContainerSeen | None) -> Ending:
    outcome, reason, text = _TROUBLES[found]
    steps = pod.steps.get(container.name, ()) if container is not None else ()
    step = _step_of(container, steps) if container is not None else None
    what = f"step {step}" if step is not None else container.name if container is not None else "the pod"
    told = (container.message or container.reason or container.last_reason) if container is not None else ""
    why = told or pod.unschedulable or pod.message or pod.reason or "Kubernetes says no more"
    code = container.last_exit_code if container is not None else None
    limit = f"{pod.memory_bytes / MIB:g} MiB" if pod.memory_bytes is not None else "unknown"
    message = " ".join(text.format(what=what, why=why, limit=limit, code=code).split())
    return Ending(outcome, reason, message[:500], step)


def _step_of(container: ContainerSeen, steps: tuple[int, ...]) -> int | None:
    """Of a container that steps share, the one that it began last is its own last word."""
    if len(steps) == 1:
        return steps[0]
    for said in (container.message, container.last_message):
        word, _, number = said.strip().partition(" ")
        if word == "step" and number.isdecimal() and int(number) in steps:
            return int(number)
    return None


def _ends(pod: PodSeen) -> str:
    told = [f"{each.name}: {each.reason} ({each.exit_code})" for each in pod.containers if each.exit_code]
    return f"the pod ended as {pod.reason or pod.phase} and its step-ctl did not tell how: {', '.join(told)}"[:500]
