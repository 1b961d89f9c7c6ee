"""What is known of machines and clusters, and what is to be done about it."""

import math
from dataclasses import dataclass, field
from typing import Literal

from shared.facts import ClusterSeen, MachineSeen
from shared.facts.machine import Isolation, NodeSeen, PodFigures, Running
from shared.needs import Capacity
from shared.tenancy import ClusterRecord

MachineState = Literal["ready", "draining", "suspect", "lost", "gone"]
Name = tuple[str, str]
"""(cluster, machine)"""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a machine says of itself that the others should know."""

    pool: str
    state: MachineState
    isolation: Isolation
    labels: tuple[str, ...]
    arch: str
    allocatable: Capacity
    session: str
    protocol: int
    node: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What a node's pods request of all of it."""

    requested: Capacity
    whole: Capacity
    free: Capacity


@dataclass(slots=True)
class Machine:
    cluster: str
    machine: str
    picture: Picture
    attempts: tuple[Running, ...]
    heard_at: float
    seen_unix_ns: int
    beat_seconds: float
    suspect_seconds: float | None = None
    version: int = 0
    seq: int = 0
    told_at: float = 0.0
    told_picture: Picture | None = None
    told_attempts: tuple[Running, ...] = ()
    node: NodeSeen | None = None
    load: Load | None = None
    """Of a node; worked out when it changes, not whenever it is summed up."""
    since: float = 0.0
    """When its state last changed."""


@dataclass(slots=True)
class Cluster:
    record: ClusterRecord | None = None
    version: int = 0
    seq: int = 0
    told_at: float = -math.inf
    changed: bool = True
    pods: dict[str, PodFigures] = field(default_factory=dict)
    """By pool."""
    virtual: dict[str, tuple[str, float]] = field(default_factory=dict)
    """(serverless pool, until when it is believed) by virtual node."""


@dataclass(slots=True)
class State:
    machines: dict[Name, Machine] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    stirred: set[Name] = field(default_factory=set)
    """Said something new since the last tick."""
    looked_at: float = -math.inf
    """When all machines were last gone through, not only those stirred."""
    resumed_at: float = 0.0
    """Since then we would have heard every beat."""


@dataclass(frozen=True, slots=True)
class TellMachine:
    """Publish, if the subject's sequence is still `expect_seq`."""

    seen: MachineSeen
    expect_seq: int


@dataclass(frozen=True, slots=True)
class TellCluster:
    seen: ClusterSeen
    expect_seq: int


@dataclass(frozen=True, slots=True)
class Forget:
    cluster: str
    machine: str


Effect = TellMachine | TellCluster | Forget
