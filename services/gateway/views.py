"""What the API shows. Times are RFC 3339 in UTC; durations seconds."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.needs import Needs


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlacementView(View):
    cluster: str
    pool: str
    target: str


class PastAttemptView(View):
    epoch: int
    cluster: str
    target: str
    reason: str


class JobSummary(View):
    """A job as lists show it."""

    id: str = Field(examples=["mzxw6ytboi4dqnrtgq2dgmzqga"])
    name: str = Field(examples=["build"])
    state: Literal["queued", "placed", "succeeded", "failed", "cancelled", "timed_out", "error"]
    phase: str = Field(
        description="finer than `state`: queued, placed, accepted, starting, running, or the final state",
        examples=["running"],
    )
    created: str = Field(examples=["2026-01-31T12:00:00.000Z"])
    ended: str | None = None
    epoch: int = Field(description="number of the newest attempt; 0 before the first")
    labels: dict[str, str] = Field(default_factory=dict)
    namespace: str | None = None
    priority: int = 0
    runs_on: list[str] = Field(default_factory=list)
    submitted_by: str = Field(examples=["key:ci-bot"])
    submitted_via: Literal["http", "bus"]
    placement: PlacementView | None = None
    waiting_for: str | None = Field(default=None, description="while queued: code of the binding reason")
    reason: str | None = Field(default=None, description="why it ended", examples=["step_failed"])
    message: str = ""
    exit_code: int | None = None
    failed_step: int | None = Field(default=None, description="the step that decided the outcome, when one did")
    cancel_requested: bool = False


class StepView(View):
    step: int
    name: str
    state: str = Field(
        description="pending, running, ready, or exited, signaled, skipped, timed_out, cancelled, ended, not_started"
    )
    verdict: Literal["ok", "failed"] | None = None
    exit_code: int | None = None
    signal: int | None = None
    killed_for: str | None = None
    tries: int = 0
    started: str | None = None
    ended: str | None = None
    duration_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    oom_kills: int = 0
    log_bytes: int | None = Field(default=None, description="kept of what the step wrote")
    log_dropped_bytes: int = Field(default=0, description="past the machine's log limit; the log's last line says so")
    message: str = ""
    outputs: dict[str, str] = Field(default_factory=dict)


class TimesView(View):
    """Where the time went. `system` is the platform's own; `user` the steps'. None: not known yet."""

    queue_seconds: float | None = Field(default=None, description="submitted to placed")
    start_seconds: float | None = Field(default=None, description="placed to workspace ready")
    handover_seconds: float | None = Field(default=None, description="between the steps")
    user_seconds: float | None = Field(default=None, description="the steps' own")
    finish_seconds: float | None = Field(default=None, description="last step's end to artifacts and log kept")
    verdict_seconds: float | None = Field(default=None, description="attempt over to job over")
    system_seconds: float | None = None
    total_seconds: float


class AttemptView(View):
    epoch: int
    cluster: str | None = None
    machine: str | None = None
    accepted: str | None = None
    started: str | None = None
    ended: str | None = None
    outcome: str | None = None
    reason: str | None = None
    message: str = ""


class ArtifactView(View):
    name: str
    size_bytes: int
    sha256: str
    files: int
    expires: str | None = None
    url: str = Field(description="path of the API that leads to the bytes, a .tar.gz")


class JobView(JobSummary):
    """A job with its steps, attempts and times."""

    isolation: str
    needs: Needs
    timeout_seconds: float
    on_lost: str
    step_count: int
    steps: list[StepView] = Field(default_factory=list)
    attempts: list[AttemptView] = Field(default_factory=list)
    artifacts: list[ArtifactView] = Field(default_factory=list)
    times: TimesView


class JobPage(View):
    jobs: list[JobSummary]
    next_cursor: str | None = Field(default=None, description="give it as `cursor` for the next page; null: the last")


class EventView(View):
    id: int = Field(description="sequence in the event stream; give it as Last-Event-ID to go on")
    type: str = Field(examples=["overspill.step.ended.v1"])
    epoch: int
    time: str
    data: dict[str, Any]


class EventPage(View):
    events: list[EventView]
    complete: bool = Field(description="the job is over and nothing follows")


class SummaryView(View):
    step: int
    markdown: str


class DownloadView(View):
    url: str
    method: Literal["GET", "PUT"]
    headers: dict[str, str] = Field(default_factory=dict)
    expires: str


class SourceView(View):
    source: str = Field(description="what the spec's `source: {tree: …}` names")
    exists: bool = Field(description="it is there already: nothing to upload")
    put: DownloadView | None = None


class MachineView(View):
    machine: str
    pool: str
    state: str
    isolation: str
    labels: list[str]
    arch: str
    allocatable: dict[str, int]
    attempts: list[dict[str, Any]] = Field(description="of your tenant")
    others: int = Field(description="attempts of other tenants")
    seen: str
    note: str = Field(default="", description="why it gets no jobs, and what to do; empty when nothing is to be done")


class ClusterView(View):
    cluster: str
    display_name: str = ""
    state: str = Field(
        description="ready; draining (cordoned); suspect or lost, by its silence; unseen: nothing of it was ever heard"
    )
    age_seconds: float | None = Field(default=None, description="since something of it was heard")
    jobs: int = Field(default=0, description="placed there now")
    pools: list[dict[str, Any]] = Field(description="`free`: what is allocatable less what placed jobs take")
    machines_ready: int
    machines_lost: int
    seen: str | None = None
    machines: list[MachineView]


class ClustersView(View):
    clusters: list[ClusterView]


class EnrolledClusterView(View):
    """A cluster's record."""

    cluster: str
    display_name: str
    bus_urls: list[str]
    object_url: str | None = None
    pools: list[dict[str, Any]]
    tenants: list[str] | None = None
    cordoned: bool


class CredentialView(View):
    credential: str = Field(description="content of the file `controller.creds`; shown now and never again")
    expires_seconds: float | None = None


class KeyView(View):
    """An API key, without its token."""

    id: str
    name: str
    role: str
    created: str
    expires: str | None = None


class NewKeyView(KeyView):
    token: str = Field(description="what `Authorization: Bearer` takes; shown now and never again")


class KeysView(View):
    keys: list[KeyView]


class WallView(View):
    cluster: str
    stands: bool
    why: str = ""


class TenantView(View):
    """A tenant's record, without its keys."""

    tenant: str
    display_name: str
    namespaces: list[str] = Field(description="the default one first")
    pod_quota: dict[str, Any]
    egress: list[dict[str, Any]]
    weight: float
    limits: dict[str, Any]
    log_retention_seconds: float
    history_seconds: float
    closing: str | None = Field(default=None, description="since when it is being deleted")
    walls: list[WallView] = Field(default_factory=list, description="by cluster, as its controller told last")


class TenantsView(View):
    tenants: list[TenantView]


class MeView(View):
    tenant: str
    subject: str
    role: str
    display_name: str
    namespaces: list[str]
    limits: dict[str, Any]


class BuriedView(View):
    """A message that could not be handled."""

    id: int
    service: str = Field(description="who buried it", examples=["gateway"])
    sender: str = Field(description="tenant or cluster it came from", examples=["default"])
    subject: str = Field(examples=["submit.default"])
    why: str
    size_bytes: int
    time: str
    beginning: str = Field(description="of its payload, as text")


class BuriedPage(View):
    buried: list[BuriedView]
    next_before: int | None = Field(default=None, description="give it as `before` for the next page; null: the last")


class WhyView(View):
    state: str
    code: str
    detail: str
    position: int | None = None
    candidates: dict[str, str] = Field(default_factory=dict)


class ReadyView(View):
    ready: bool
    waiting_for: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list, description="what an operator should see to")


class Problem(View):
    """RFC 9457."""

    type: str = Field(examples=["https://overspill.dev/problems/spec_refused"])
    title: str = Field(examples=["Spec refused"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["step: unknown key; did you mean `steps`?"])
    code: str = Field(description="a stable word for programs", examples=["spec_refused"])
    instance: str = Field(examples=["/v1/jobs"])
