"""Machines and wants as placement sees them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from shared.facts import JobRecord, MachineSeen
from shared.images import image_token
from shared.needs import Capacity, Needs
from shared.pods import KUBE
from shared.tenancy import PoolKind

PROTOCOLS = frozenset({1})
"""Versions of the runner protocol that orders can be given in."""

MachineState = Literal["ready", "draining", "lost", "gone", "suspect"]
"""`suspect`: nothing was heard of it for a while, not even that it is lost."""


class Why(StrEnum):
    """Why a job can't start on a machine, stable words. The order is that of nearness: the nearest of all machines'
    reasons is the one that binds.
    """

    BUSY = "busy"
    HELD = "held"
    AVOIDED = "avoided"
    DRAINING = "draining"
    SUSPECT = "suspect"
    LOST = "lost"
    GONE = "gone"
    OLD_PROTOCOL = "old_protocol"
    TOO_BIG = "too_big"
    NEEDS_CONTAINERS = "needs_containers"
    NEEDS_NAMESPACE = "needs_namespace"
    NOT_SERVED = "not_served"
    RUNS_ON = "runs_on_unmatched"
    NO_MACHINES = "no_machines"


NEARNESS = {why: number for number, why in enumerate(Why)}


class Amount(NamedTuple):
    """CPU in thousandths of a core, memory and disk in bytes; hashed and added thousands of times a second."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int

    @classmethod
    def of(cls, what: Needs | Capacity) -> Self:
        return cls(what.cpu_millis, what.memory_bytes, what.disk_bytes)

    def fits(self, free: "Amount") -> bool:
        return (
            self.cpu_millis <= free.cpu_millis
            and self.memory_bytes <= free.memory_bytes
            and self.disk_bytes <= free.disk_bytes
        )

    def plus(self, other: "Amount") -> "Amount":
        return Amount(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
        )

    def minus(self, other: "Amount") -> "Amount":
        return Amount(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.disk_bytes - other.disk_bytes,
        )


NOTHING = Amount(0, 0, 0)


class Target(NamedTuple):
    """A place that takes orders."""

    cluster: str
    machine: str


@dataclass(frozen=True, slots=True)
class Want:
    """What of a job decides where it may run: equal wants are feasible in the same places."""

    tenant: str
    needs: Amount
    runs_on: frozenset[str]
    containers: bool
    namespace: str | None = None
    avoid: frozenset[Target] = frozenset()
    """Where an attempt of it went wrong; used again only if no other live machine could ever run it."""


@dataclass(frozen=True, slots=True)
class Machine:
    target: Target
    pool: str
    kind: PoolKind
    state: MachineState
    isolation: str
    words: frozenset[str]
    """What `runs-on` may call it: its cluster, pool, name, arch, isolation, and labels."""
    allocatable: Amount
    protocol: int = 1
    tenants: frozenset[str] | None = None
    """Only these may run here; None: all."""
    node: str | None = None
    """As Kubernetes calls it."""
    images: frozenset[str] = frozenset()
    """Tokens of the images that needn't be pulled there."""

    @property
    def address(self) -> str:
        """Who gets the orders."""
        return KUBE if self.isolation == "pod" else self.target.machine

    @property
    def only_controls(self) -> bool:
        """It is a cluster's controller, whose nodes are machines of their own: nothing ever runs here."""
        return self.isolation == "pod" and self.target.machine == KUBE


def want_of(record: JobRecord) -> Want:
    return Want(
        tenant=record.tenant,
        needs=Amount.of(record.needs),
        runs_on=frozenset(record.runs_on),
        containers=record.isolation == "container",
        namespace=record.namespace,
        avoid=frozenset(Target(past.cluster, past.room or past.target) for past in record.past_attempts),
    )


def machine_from(seen: MachineSeen, kind: PoolKind = "agents", tenants: Iterable[str] | None = None) -> Machine:
    return Machine(
        target=Target(seen.cluster, seen.machine),
        pool=seen.pool,
        kind=kind,
        state=seen.state,
        isolation=seen.isolation,
        words=frozenset((seen.cluster, seen.pool, seen.machine, seen.arch, seen.isolation, *seen.labels)),
        allocatable=Amount.of(seen.allocatable),
        protocol=seen.protocol,
        tenants=None if tenants is None else frozenset(tenants),
        node=seen.node,
        images=frozenset(map(image_token, seen.images)),
    )
