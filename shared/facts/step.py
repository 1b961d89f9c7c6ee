"""What a step did."""

from typing import Literal

from pydantic import Field

from shared.facts.attempt import AttemptFact
from shared.ids import StepNumber

StepState = Literal["exited", "signaled", "skipped", "timed_out", "cancelled", "ended", "not_started"]
KilledFor = Literal["none", "memory", "timeout", "cancel", "stale", "fenced", "end"]


class StepFact(AttemptFact):
    step: StepNumber
    name: str = Field(max_length=200)


class StepStarted(StepFact, kind="step.started"):
    """The step's command runs."""

    tries: int = 1


class StepReady(StepFact, kind="step.ready"):
    """A background step answers: the steps after it may begin."""


class StepEnded(StepFact, kind="step.ended"):
    """The step's processes are gone and its exit record is on disk."""

    state: StepState
    verdict: Literal["ok", "failed"]
    """What counts for the job: `continue-on-error` is applied."""
    exit_code: int | None = None
    signal: int | None = None
    killed_for: KilledFor = "none"
    tries: int = 0
    started_unix_ns: int = 0
    ended_unix_ns: int = 0
    duration_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    oom_kills: int = 0
    usage_from: Literal["cgroup", "rusage", "none"] = "none"
    log_bytes: int = 0
    log_dropped_bytes: int = 0
    message: str = Field(default="", max_length=500)
    outputs: dict[str, str] = Field(default_factory=dict)
    """What the step wrote to $OVERSPILL_OUTPUT; 64 KiB in all."""


class StepSummarised(StepFact, kind="step.summarised"):
    """Markdown the step wrote to $OVERSPILL_SUMMARY; cut at 256 KiB."""

    markdown: str = Field(max_length=262_144)


class ArtifactStored(AttemptFact, kind="artifact.stored"):
    """The artifact is in the object store, whole, as a .tar.gz."""

    name: str = Field(max_length=200)
    key: str
    size_bytes: int = Field(ge=0)
    sha256: str
    files: int = Field(ge=0)
    expires_unix: int | None = None
