"""The record of a job: one publish is its compare-and-set and its event."""

from typing import Literal

from pydantic import Field

from shared.facts.attempt import Spans
from shared.facts.core import Fact
from shared.ids import ClusterId, Epoch, JobId, MachineId, PoolId, StepNumber, TenantId
from shared.lifecycle import TERMINAL, JobState, Reason
from shared.needs import Needs
from shared.spec_words import OnLost
from shared.wire import Model

RECORD_LIMIT_BYTES = 4096


class Placement(Model):
    """Where the current attempt was sent."""

    cluster: ClusterId
    pool: PoolId
    target: MachineId
    """Who gets the order."""
    room: MachineId | None = None
    """Whose room it takes, where that is another: a node of the cluster, or a serverless pool."""
    node: str | None = Field(default=None, max_length=253)
    """As Kubernetes calls the node that has room for it. Kubernetes decides."""


class PastAttempt(Model):
    """An attempt that is over, as the record keeps it."""

    epoch: Epoch
    cluster: ClusterId
    target: MachineId
    reason: Reason
    room: MachineId | None = None


class JobRecord(Fact, kind="job.recorded"):
    """Everything that decides about a job, at most 4 KiB. The gateway creates it; the leading scheduler does every
    other write.
    """

    tenant: TenantId
    job: JobId
    name: str = Field(max_length=200)
    state: JobState
    created_unix_ns: int = Field(ge=0)
    content_hash: str
    """sha256 of the admitted spec: the same idempotency key with another one is refused."""
    runs_on: list[str] = Field(default_factory=list, max_length=16)
    needs: Needs
    isolation: Literal["process", "container"] = "process"
    """`container` when any step names an image."""
    namespace: str | None = Field(default=None, max_length=63)
    priority: int = Field(default=0, ge=-100, le=100)
    timeout_seconds: float = Field(gt=0)
    on_lost: OnLost = "rerun"
    labels: dict[str, str] = Field(default_factory=dict, max_length=16)
    step_count: int = Field(ge=1, le=200)
    artifact_count: int = Field(default=0, ge=0, le=64)
    """Named in the spec."""
    images: list[str] = Field(default_factory=list, max_length=16)
    """Tokens (`shared.images`) of what its steps name."""
    submitted_by: str = Field(max_length=200)
    submitted_via: Literal["http", "bus"] = "http"
    traceparent: str | None = None

    epoch: Epoch = 0
    """Of the newest attempt; 0 before the first."""
    placement: Placement | None = None
    placed_unix_ns: int | None = None
    deadline_unix_ns: int | None = None
    """The leader cancels the attempt for `timeout` at this instant."""
    cancel_requested: bool = False
    past_attempts: list[PastAttempt] = Field(default_factory=list, max_length=8)
    not_before_unix_ns: int | None = None
    """While queued after an attempt: the next one isn't placed earlier (fenced, or put off)."""
    waiting_for: str | None = Field(default=None, max_length=40)
    """While queued: code of the binding reason. It changes the record only when the reason itself changes."""

    reason: Reason | None = None
    message: str = Field(default="", max_length=500)
    step: StepNumber | None = None
    exit_code: int | None = None
    ended_unix_ns: int | None = None
    spans: Spans | None = None

    term: int = 0
    write_id: str
    """Random per write: who reads it back after a time-out knows whether his write won."""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL
