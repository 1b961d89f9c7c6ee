"""Could this machine run it: first what never changes with load, then what does."""

from shared.placement.model import PROTOCOLS, Machine, Want, Why

_NOT_READY = {
    "draining": Why.DRAINING,
    "lost": Why.LOST,
    "gone": Why.GONE,
    "suspect": Why.SUSPECT,
}


def never(want: Want, machine: Machine) -> Why | None:
    """Why the machine could not run it even if it were ready and empty."""
    if machine.tenants is not None and want.tenant not in machine.tenants:
        return Why.NOT_SERVED
    if not want.runs_on <= machine.words:
        return Why.RUNS_ON
    if want.containers and machine.isolation == "process":
        return Why.NEEDS_CONTAINERS
    if want.namespace is not None and machine.isolation != "pod":
        return Why.NEEDS_NAMESPACE
    if not want.needs.fits(machine.allocatable):
        return Why.TOO_BIG
    return Why.OLD_PROTOCOL if machine.protocol not in PROTOCOLS else None


def not_now(machine: Machine) -> Why | None:
    """Why it takes no new attempt at present, whatever is free."""
    return _NOT_READY.get(machine.state)
