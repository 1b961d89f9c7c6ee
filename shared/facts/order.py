"""Desired state for the edge: not work to be taken, but what should be."""

from enum import StrEnum

from pydantic import Field

from shared.facts.core import Fact
from shared.ids import ClusterId, Epoch, JobId, MachineId, TenantId
from shared.needs import Needs
from shared.spec_words import OnLost


class Desired(StrEnum):
    RUN = "run"
    CANCEL = "cancel"
    TIMEOUT = "timeout"
    HOLD = "hold"


class Order(Fact, kind="order.given"):
    """What should be of this attempt on this target. Holds no secret; the edge asks for those after it accepted."""

    tenant: TenantId
    job: JobId
    epoch: Epoch
    cluster: ClusterId
    target: MachineId
    desired: Desired
    needs: Needs
    on_lost: OnLost
    fence_seconds: float
    """Under `rerun-fenced`: without contact with the hub for so long, nothing of the attempt is left."""
    timeout_seconds: float
    protocol: int = 1
    term: int
    """Of the leader that gave it; an older term's order changes nothing."""
    traceparent: str | None = None
    node: str | None = Field(default=None, max_length=253)
    """Of an attempt that is to be a pod: the Kubernetes node that has room for it, as far as is known."""
