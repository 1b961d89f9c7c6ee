"""What an attempt of a job did."""

from typing import Literal

from pydantic import Field

from shared.facts.core import Fact
from shared.ids import ClusterId, Epoch, JobId, MachineId, StepNumber, TenantId
from shared.lifecycle import Reason
from shared.wire import Model

Outcome = Literal["succeeded", "failed", "cancelled", "timed_out", "error"]


class AttemptFact(Fact):
    """Common head: whose attempt, and when by the wall clock of the machine that says so."""

    tenant: TenantId
    job: JobId
    epoch: Epoch
    at_unix_ns: int = Field(ge=0)


class AttemptAccepted(AttemptFact, kind="attempt.accepted"):
    """One machine took the order. Published with expected sequence 0: the server picks one claimant."""

    cluster: ClusterId
    machine: MachineId
    claim: str = Field(default="", max_length=64)
    """Random: by it the claimant tells its own word from one that stood before."""


class AttemptStarted(AttemptFact, kind="attempt.started"):
    """Step-ctl is up and prepares the workspace."""

    machine: MachineId
    node: str | None = Field(default=None, max_length=253)
    """Of a pod: the Kubernetes node that it runs on."""


class Spans(Model):
    """Where the attempt's time went, seconds by the runner's monotonic clock. `user` is the steps' own; the rest is
    the system's.
    """

    prepare_seconds: float = 0.0
    """From accepting the order to the workspace being ready."""
    handover_seconds: float = 0.0
    """Sum of the gaps between the steps, and from workspace ready to the first step."""
    user_seconds: float = 0.0
    """From each foreground step's start to its end, summed."""
    finish_seconds: float = 0.0
    """From the last step's end to all artifacts stored and all log bytes on the bus."""


class AttemptEnded(AttemptFact, kind="attempt.ended"):
    """The attempt is over; nothing of it runs any more, or whatever does can change nothing. One per epoch: expected
    sequence 0.
    """

    outcome: Outcome
    reason: Reason
    message: str = Field(default="", max_length=500)
    step: StepNumber | None = None
    """The step that decided the outcome, when one did."""
    exit_code: int | None = None
    """Of the last step that ran. Success without it is impossible."""
    spans: Spans = Spans()
