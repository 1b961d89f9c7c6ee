"""What the controller knows, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runner.agent.model import Key
from shared.needs import Needs
from shared.pods import PodTemplate
from shared.spec import JobSpec

APP = "build"
"""Value of the label `app`: what network policies and quotas select."""
LABEL = "overspill.dev"
CLUSTER, TENANT, JOB, EPOCH = f"{LABEL}/cluster", f"{LABEL}/tenant", f"{LABEL}/job", f"{LABEL}/epoch"
STEPS = f"{LABEL}/steps"
"""Annotation: which steps each container runs, as `step-1=1 step-2=2,3`."""

FINALIZER = f"{LABEL}/attempt"
"""Whoever deletes a pod, its last word stays until its attempt is told as over: a pod that isn't there was never made,
or is told."""


def selector(cluster: str) -> str:
    """Of the pods that are ours. Two platforms may share a Kubernetes cluster."""
    return f"app={APP},{CLUSTER}={cluster},{JOB}"


STEP_CTL = "step-ctl"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """All that a pod's manifest depends on."""

    cluster: str
    key: Key
    namespace: str
    spec: JobSpec
    groups: tuple[tuple[int, ...], ...]
    needs: Needs
    template: PodTemplate
    step_ctl_image: str
    default_image: str
    """For steps that name none."""
    pool: str
    timeout_seconds: float
    grace_seconds: float
    node: str | None = None
    """Where it should rather run; the Kubernetes scheduler decides."""
    traceparent: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of step-ctl."""

    @property
    def name(self) -> str:
        return self.key.name


Trouble = Literal[
    "image_pull",
    "bad_command",
    "no_entrypoint",
    "config",
    "unschedulable",
    "evicted",
    "node_lost",
    "out_of_memory",
    "deadline",
    "gone",
]


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    name: str
    state: Literal["waiting", "running", "terminated"]
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    last_reason: str = ""
    """How it ended before its last restart."""
    last_message: str = ""
    last_exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One of our pods at one instant."""

    key: Key
    namespace: str
    uid: str
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
    node: str | None
    reason: str = ""
    message: str = ""
    deleting: bool = False
    deletion_grace_seconds: float = 0.0
    """Given by who deletes it."""
    finalizers: tuple[str, ...] = ()
    unschedulable: str | None = None
    """Why the Kubernetes scheduler has no node for it."""
    containers: tuple[ContainerSeen, ...] = ()
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    memory_bytes: int | None = None
    """What a step may use."""

    @property
    def over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")
