"""From orders and what is here to effects. Pure."""

from collections.abc import Iterator

from runner.agent.model import Claim, Decline, Effect, End, Hold, Local, Refuse, Release, View
from runner.protocol.directory import PROTOCOL
from shared.facts.order import Desired, Order
from shared.needs import Capacity, Needs


def reconcile(view: View) -> Iterator[Effect]:
    """What is to be done now. Ends and holds come first; new attempts in the order of their keys, as they fit."""
    newest = _newest(view)
    here = {local.key: local for local in view.locals}
    for local in sorted(view.locals, key=lambda local: local.key):
        yield from _for_local(local, view, newest[local.key.tenant, local.key.job])
    free = free_capacity(view.capacity, view.locals)
    for key, order in sorted(view.orders.items(), key=lambda item: item[0]):
        if key in here or key in view.settled or key.epoch < newest[key.tenant, key.job]:
            continue
        effect = _for_new(order, view.capacity, draining=view.draining)
        if isinstance(effect, Claim):
            if not order.needs.fits(free):
                # The hub hears of an attempt's end before its room is free here. The order stands: it is looked at
                # again when the room is, and the hub gives it to another machine when that takes too long.
                continue
            free = free.minus(order.needs)
        yield effect


def free_capacity(capacity: Capacity, locals_: tuple[Local, ...]) -> Capacity:
    """What is not reserved. Processor and memory are free once nothing runs; disk when the attempt is deleted."""
    for local in locals_:
        taken: Needs | Capacity = local.needs
        if local.phase == "finishing":
            taken = Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=local.needs.disk_bytes)
        capacity = capacity.minus(taken)
    return capacity


def _newest(view: View) -> dict[tuple[str, str], int]:
    """The newest epoch known of each job."""
    newest: dict[tuple[str, str], int] = {}
    for key in (*view.orders, *(local.key for local in view.locals)):
        newest[key.tenant, key.job] = max(key.epoch, newest.get((key.tenant, key.job), 0))
    return newest


def _for_local(local: Local, view: View, newest: int) -> Iterator[Effect]:
    if local.ending:
        return
    order = view.orders.get(local.key)
    if local.phase == "finishing":
        # Nothing runs, but artifacts may be on their way. That its order is gone then is how every attempt ends.
        if order is not None and order.desired in (Desired.CANCEL, Desired.TIMEOUT):
            yield End(local.key, "cancel" if order.desired is Desired.CANCEL else "timeout")
        return
    if local.key.epoch < newest or (order is None and view.complete):
        yield End(local.key, "stale")
    elif order is not None:
        match order.desired:
            case Desired.CANCEL:
                yield End(local.key, "cancel")
            case Desired.TIMEOUT:
                yield End(local.key, "timeout")
            case Desired.HOLD if local.phase == "running" and not local.held:
                yield Hold(local.key)
            case Desired.RUN if local.phase == "running" and local.held:
                yield Release(local.key)
            case _:
                pass


def _for_new(order: Order, capacity: Capacity, *, draining: bool) -> Effect:
    if order.desired in (Desired.CANCEL, Desired.TIMEOUT):
        return Decline(order)
    if order.protocol != PROTOCOL:
        return Refuse(
            order, f"the order asks for runner protocol {order.protocol}, this agent speaks {PROTOCOL}: update it"
        )
    if draining:
        return Refuse(order, "the machine is draining")
    if not order.needs.fits(capacity):
        return Refuse(order, _does_not_fit(order.needs, capacity))
    return Claim(order)


def _does_not_fit(needs: Needs, capacity: Capacity) -> str:
    for name, wanted, there in (
        ("cpu_millis", needs.cpu_millis, capacity.cpu_millis),
        ("memory_bytes", needs.memory_bytes, capacity.memory_bytes),
        ("disk_bytes", needs.disk_bytes, capacity.disk_bytes),
    ):
        if wanted > there:
            return f"it needs {name} {wanted}, this machine has {there}"
    return "it does not fit"


def supersedes(known: Order | None, told: Order) -> bool:
    """Whether an order that comes live replaces the known one: an older leader's changes nothing."""
    return known is None or told.term >= known.term
