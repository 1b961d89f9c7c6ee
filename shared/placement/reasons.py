"""Reasons in sentences that name the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.needs import GIB
from shared.placement.fleet import Fleet
from shared.placement.model import NEARNESS, PROTOCOLS, Amount, Machine, Want, Why

_SHOWN = 8
CANDIDATES_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Explanation:
    """The binding reason of a wait, None when a machine would take the job now."""

    code: Why | None
    detail: str
    candidates: dict[str, str]
    """`cluster/machine` → why it does not take the job."""


def explain(want: Want, fleet: Fleet) -> Explanation:
    reasons = [(machine, fleet.why_not(want, machine)) for machine in fleet if not machine.only_controls]
    candidates = {
        f"{machine.target.cluster}/{machine.target.machine}": sentence(why, want, machine, fleet.free(machine))
        for machine, why in reasons[:CANDIDATES_SHOWN]
    }
    if any(why is None for _, why in reasons):
        return Explanation(None, "a machine is free for it; it is its turn next", candidates)
    code = min((why for _, why in reasons if why is not None), key=NEARNESS.__getitem__, default=Why.NO_MACHINES)
    return Explanation(
        code, _summary(code, want, fleet, [machine for machine, why in reasons if why is code]), candidates
    )


def sentence(why: Why | None, want: Want, machine: Machine, free: Amount) -> str:
    """Of one machine."""
    missing = ", ".join(sorted(want.runs_on - machine.words))
    texts: dict[Why | None, str] = {
        None: "would take it now",
        Why.BUSY: f"busy: {_lack(want.needs, free, 'is free' if _cores_lack(want.needs, free) else 'are free')}",
        Why.HELD: "held free for a larger job that has waited longer",
        Why.AVOIDED: "an attempt of this job went wrong here; another machine is tried first",
        Why.DRAINING: "is draining: it takes no new jobs",
        Why.SUSPECT: "nothing was heard of it for a while",
        Why.LOST: "is lost: its agent is silent",
        Why.GONE: "its agent was stopped",
        Why.OLD_PROTOCOL: unserved(machine.protocol),
        Why.TOO_BIG: _lack(want.needs, machine.allocatable, "is all it has"),
        Why.NEEDS_CONTAINERS: "a step names an image; this machine isolates processes only",
        Why.NEEDS_NAMESPACE: "the job names a namespace; this machine is not part of Kubernetes",
        Why.NOT_SERVED: "its cluster does not serve your tenant",
        Why.RUNS_ON: f"is not called or labelled {missing}",
    }
    return texts[why]


def _summary(code: Why, want: Want, fleet: Fleet, machines: list[Machine]) -> str:
    names, are, s = _names(machines), _are(machines), _s(machines)
    texts = {
        Why.NO_MACHINES: "no machine has joined yet; start an agent (`overspill up` starts one)",
        Why.RUNS_ON: _no_such(want, fleet),
        Why.TOO_BIG: f"{_largest(want.needs, machines)}; take a smaller machineType or add a larger machine",
        Why.NEEDS_CONTAINERS: f"image needs containers; {names} isolate{s} processes only: "
        "use a pool with isolation podman or containerd, or drop image",
        Why.NEEDS_NAMESPACE: "namespace needs Kubernetes, and no cluster that may run the job is: "
        "drop namespace, or add one",
        Why.NOT_SERVED: "the machines that could run it serve other tenants only; ask the operator for one of your own",
        Why.OLD_PROTOCOL: f"{names} speak{s} another runner protocol than the hub ({_protocols()}): update",
        Why.BUSY: f"waits for room: {names} {are} busy",
        Why.HELD: f"{names} {are} held free for a larger job that has waited longer",
        Why.AVOIDED: f"an attempt went wrong on {names}; waits for another machine",
        Why.DRAINING: f"{names} {are} draining; start another machine or end the drain",
        Why.SUSPECT: f"nothing was heard of {names} for a while; is cluster-metrics running?",
        Why.LOST: f"{names} {are} lost: see to the agent or its network",
        Why.GONE: f"the agent of {names} was stopped; start it again",
    }
    return texts[code]


def _no_such(want: Want, fleet: Fleet) -> str:
    machines = list(fleet)
    known = frozenset(word for machine in machines for word in machine.words)
    unknown = sorted(want.runs_on - known)
    have = (
        f"you have pools {_list(machine.pool for machine in machines)}; "
        f"clusters {_list(machine.target.cluster for machine in machines)}; "
        f"labels {_list(_labels(machines))}"
    )
    if unknown:
        return f"no such pool, cluster or label: {', '.join(unknown)}; {have}"
    return f"no machine is all of {', '.join(sorted(want.runs_on))} at once; {have}"


def _labels(machines: list[Machine]) -> Iterable[str]:
    for machine in machines:
        yield from machine.words - {machine.pool, machine.target.cluster, machine.target.machine}


def _list(words: Iterable[str]) -> str:
    unique = sorted(set(words))
    shown = ", ".join(unique[:_SHOWN]) or "none"
    return f"{shown} and {len(unique) - _SHOWN} more" if len(unique) > _SHOWN else shown


def _names(machines: list[Machine]) -> str:
    return _list(machine.target.machine for machine in machines)


def _s(machines: list[Machine]) -> str:
    return "s" if len(machines) == 1 else ""


def _are(machines: list[Machine]) -> str:
    return "is" if len(machines) == 1 else "are"


def unserved(protocol: int) -> str:
    """What an operator has to do about a machine that gets no orders for its protocol; empty when it gets them."""
    if protocol in PROTOCOLS:
        return ""
    which = "the hub" if protocol > max(PROTOCOLS) else "its agent"
    return f"speaks runner protocol {protocol}, the hub {_protocols()}: update {which}"


def _protocols() -> str:
    return ", ".join(str(version) for version in sorted(PROTOCOLS))


def _cores(millis: int) -> str:
    return f"{millis / 1000:g}"


def _gib(size: int) -> str:
    return f"{size / GIB:.3g} GiB"


def _cores_lack(needs: Amount, there: Amount) -> bool:
    return needs.cpu_millis > there.cpu_millis


def _lack(needs: Amount, there: Amount, verb: str) -> str:
    if needs.cpu_millis > there.cpu_millis:
        return f"needs {_cores(needs.cpu_millis)} cores, {_cores(max(0, there.cpu_millis))} {verb}"
    if needs.memory_bytes > there.memory_bytes:
        return f"needs {_gib(needs.memory_bytes)} of memory, {_gib(max(0, there.memory_bytes))} {verb}"
    return f"needs {_gib(needs.disk_bytes)} of disk, {_gib(max(0, there.disk_bytes))} {verb}"


def _largest(needs: Amount, machines: list[Machine]) -> str:
    cpu = max((machine.allocatable.cpu_millis for machine in machines), default=0)
    memory = max((machine.allocatable.memory_bytes for machine in machines), default=0)
    disk = max((machine.allocatable.disk_bytes for machine in machines), default=0)
    if needs.cpu_millis > cpu:
        return f"needs {_cores(needs.cpu_millis)} cores, the largest machine has {_cores(cpu)}"
    if needs.memory_bytes > memory:
        return f"needs {_gib(needs.memory_bytes)} of memory, the largest machine has {_gib(memory)}"
    if needs.disk_bytes > disk:
        return f"needs {_gib(needs.disk_bytes)} of disk, the largest machine has {_gib(disk)}"
    return "no single machine has enough of CPU, memory and disk at once"
