"""What machines and clusters say of themselves."""

from typing import Literal

from pydantic import Field

from shared.facts.core import Fact
from shared.ids import ClusterId, Epoch, JobId, MachineId, PoolId, TenantId
from shared.needs import Capacity
from shared.wire import Model

Isolation = Literal["process", "podman", "containerd", "pod"]


class Running(Model):
    tenant: TenantId
    job: JobId
    epoch: Epoch


class Taint(Model):
    """Of a Kubernetes node; what no toleration of a pool's pods answers keeps them away."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


class NodeSeen(Model):
    """A Kubernetes node, as its API server tells of it."""

    name: str = Field(max_length=253)
    labels: dict[str, str] = Field(default_factory=dict)
    taints: list[Taint] = Field(default_factory=list)
    allocatable: Capacity | None = None
    """All of it; None from an older controller."""
    requested: Capacity | None = None
    """Of it, by all pods there."""
    images: list[str] = Field(default_factory=list, max_length=64)
    """Of those that steps use, the ones it holds."""
    virtual: bool = False
    """No machine: what its pods request is paid for by use."""


class Percentiles(Model):
    """Of the last minutes, seconds."""

    count: int
    p50: float
    p90: float
    p99: float


class PodFigures(Model):
    """The platform's pods of one pool."""

    pool: PoolId
    phases: dict[str, int] = Field(default_factory=dict)
    """Kubernetes' words."""
    pending: dict[str, int] = Field(default_factory=dict)
    """Why those that are `Pending` are: `unschedulable`, `image_pull`, `starting`, …"""
    start: Percentiles | None = None
    """From the pod's creation to its first running container."""
    pull: Percentiles | None = None
    """Of one image, as the kubelet timed it."""


class NodeShape(Model):
    """Nodes of one size, and what of them is free."""

    cpu_millis: int
    memory_bytes: int
    nodes: int
    free: Capacity
    roomiest: Capacity
    """What is free on the node with most processors free."""


class MachineBeat(Fact, kind="machine.beat"):
    """An agent is alive: every two seconds and at every change. Core message, not stored."""

    cluster: ClusterId
    machine: MachineId
    pool: PoolId
    session: str
    """Random per start of the agent: a restart is seen even when no beat was missed."""
    version: str
    protocol: int
    isolation: Isolation
    labels: list[str] = Field(default_factory=list, max_length=64)
    arch: str
    allocatable: Capacity
    attempts: list[Running] = Field(default_factory=list)
    draining: bool = False
    leaving: bool = False
    """The agent takes its leave in order: this is its last beat."""
    beat_seconds: float = 2.0
    """Five of them unheard, it is lost."""
    suspect_seconds: float | None = Field(default=None, gt=0)
    """Unheard so long, it gets nothing new; None: as long as it is not lost."""
    node: NodeSeen | None = None
    """Told by a controller of each node of its cluster. Which pool the node belongs to, the pools' records say."""
    pods: list[PodFigures] | None = Field(default=None, max_length=64)
    """Told by a controller in its own beat."""


class MachineSeen(Fact, kind="machine.seen"):
    """The cluster's picture of one machine, last value, versioned."""

    cluster: ClusterId
    machine: MachineId
    pool: PoolId
    version: int
    """Grows with every publish of this machine."""
    state: Literal["ready", "draining", "suspect", "lost", "gone"]
    """`suspect`: silent, so that it gets nothing new. `lost`: silent too long. `gone`: it took its leave in order."""
    isolation: Isolation
    labels: list[str]
    arch: str
    allocatable: Capacity
    attempts: list[Running]
    session: str
    seen_unix_ns: int
    protocol: int = 1
    node: str | None = None
    """As Kubernetes calls it."""
    images: list[str] = Field(default_factory=list)
    beat_seconds: float = 2.0
    suspect_seconds: float | None = None
    """Both as its beats tell them."""


class PoolSeen(Model):
    pool: PoolId
    kind: Literal["fixed", "agents", "serverless"]
    machines: int
    allocatable: Capacity
    """Of `fixed` pools: what the platform may use, which is all less what others request."""
    virtual_nodes: int = 0
    requested: Capacity | None = None
    """By all pods of the pool's nodes; None where nobody tells."""
    shapes: list[NodeShape] = Field(default_factory=list)
    """The most frequent ones first, at most 16."""
    pods: PodFigures | None = None


class ClusterSeen(Fact, kind="cluster.seen"):
    """The cluster as a whole, on change and every ten seconds; silence makes it suspect."""

    cluster: ClusterId
    version: int
    pools: list[PoolSeen]
    machines_ready: int
    machines_lost: int
    seen_unix_ns: int
