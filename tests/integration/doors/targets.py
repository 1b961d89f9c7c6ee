"""Every subject that somebody writes, with what is right on it. `shared.flow` says which there are; a test compares."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.facts import (
    ArtifactsKept,
    ArtifactStored,
    AttemptAccepted,
    AttemptEnded,
    AttemptStarted,
    CancelRequested,
    CapacityCounted,
    ClusterSeen,
    Desired,
    Fact,
    JobForgotten,
    JobRecord,
    JobSubmitted,
    MachineBeat,
    MachineSeen,
    Order,
    RefusalsCounted,
    StepEnded,
    StepReady,
    StepStarted,
    StepSummarised,
    SubmissionRefused,
)
from shared.flow import (
    Ask,
    Beat,
    ClusterMetrics,
    Done,
    Edge,
    Evt,
    Figures,
    Gone,
    Job,
    Kept,
    LogTo,
    MachineMetrics,
    OrderTo,
    Spec,
    Submit,
    Svc,
)
from shared.lifecycle import Reason
from shared.needs import Capacity, Needs
from shared.parties import Party
from shared.requests import (
    DownloadAsked,
    DurableAsked,
    ForgetAsked,
    GrantAsked,
    LogAsked,
    OrdersAsked,
    SourceCheckAsked,
    SourceUploadAsked,
    UrlsAsked,
    WhyAsked,
)
from shared.wire import Model
from tests.integration.doors.poison import Headers

Sender = Literal["service", "attempt", "machine", "hub"]
CLUSTER, MACHINE = "c1", "m-fuzz"


@dataclass(frozen=True)
class Target:
    """`model`: what must be readable there, else it is poison; None: whoever asks is answered."""

    sender: Sender
    subject: str
    valid: dict[str, Any] | None
    headers: Headers = ()
    model: type[Fact] | None = None
    asks: bool = False
    mine: dict[str, Any] = field(default_factory=dict)
    """Fields that must be the subject's."""


def _of(model: Model) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)


def targets(tenant: str, job: str) -> list[Target]:
    return [*_services(tenant), *_attempts(tenant, job), *_machines(tenant, job), *_hub(tenant, job)]


def _services(tenant: str) -> list[Target]:
    spec = {"name": "fuzz", "steps": [{"run": "true"}], "runs-on": ["nowhere"]}
    kind = JobSubmitted.event_type().encode()
    head = ((b"ce-specversion", b"1.0"), (b"ce-type", kind), (b"ce-source", b"fuzz"))
    cancel = (*head[:1], (b"ce-type", CancelRequested.event_type().encode()), head[2])
    subject = str(Submit(tenant))
    return [
        Target("service", subject, {"spec": spec}, head),
        Target("service", subject, {"job": "no-such-job"}, cancel),
    ]


def _facts(head: dict[str, Any]) -> list[Fact]:
    step = {**head, "step": 1, "name": "s"}
    return [
        AttemptStarted(**head, machine=MACHINE),
        StepStarted(**step),
        StepReady(**step),
        StepEnded(**step, state="exited", verdict="ok", exit_code=0),
        StepSummarised(**step, markdown="# x"),
        ArtifactStored(**head, name="a", key="k", size_bytes=1, sha256="s", files=1),
        AttemptEnded(**head, outcome="failed", reason=Reason.STEP_FAILED, exit_code=1),
    ]


def _attempts(tenant: str, job: str) -> list[Target]:
    head = {"tenant": tenant, "job": job, "epoch": 1, "at_unix_ns": time.time_ns()}
    chunk = ((b"Overspill-Offset", b"0"),)
    return [
        *(
            Target("attempt", str(Evt(tenant, job, 1, fact.token())), _of(fact), model=type(fact))
            for fact in _facts(head)
        ),
        Target("attempt", str(Evt(tenant, job, 1, "of-a-later-version")), {**head, "new": True}),
        Target("attempt", str(LogTo(tenant, job, 1, 1)), None, chunk),
        Target("attempt", str(Ask(tenant, job, 1, "urls")), _of(UrlsAsked(artifacts=["a"], source=True)), asks=True),
        Target("attempt", str(Ask(tenant, job, 1, "durable")), _of(DurableAsked(steps=[1], flush=True)), asks=True),
        Target("attempt", str(Ask(tenant, job, 1, "desired")), {}, asks=True),
    ]


def _machines(tenant: str, job: str) -> list[Target]:
    head = {"tenant": tenant, "job": job, "epoch": 1, "at_unix_ns": time.time_ns()}
    accepted = AttemptAccepted(**head, cluster=CLUSTER, machine=MACHINE)
    ended = AttemptEnded(**head, outcome="error", reason=Reason.RUNNER_LOST)
    beat = MachineBeat(
        cluster=CLUSTER,
        machine=MACHINE,
        pool="p",
        session="s",
        version="0",
        protocol=1,
        isolation="process",
        arch="amd64",
        allocatable=Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0),
    )
    own = {"tenant": tenant, "job": job, "epoch": 1}
    place = {"cluster": CLUSTER, "machine": MACHINE}
    asked = GrantAsked(tenant=tenant, job=job, epoch=1)
    return [
        Target("machine", str(Evt(tenant, job, 1, accepted.token())), _of(accepted), model=AttemptAccepted, mine=own),
        Target("machine", str(Evt(tenant, job, 1, ended.token())), _of(ended), model=AttemptEnded, mine=own),
        Target("machine", str(Beat(CLUSTER, MACHINE)), _of(beat), model=MachineBeat, mine=place),
        Target("machine", str(Edge(CLUSTER, MACHINE, "orders")), _of(OrdersAsked(after="a.b")), asks=True),
        Target("machine", str(Edge(CLUSTER, MACHINE, "grant")), _of(asked), asks=True),
    ]


def _hub(tenant: str, job: str) -> list[Target]:
    """What hub services tell each other: nobody outside writes it, and still none of it may stop anybody."""
    needs, now = Needs(cpu_millis=1, memory_bytes=1, disk_bytes=1), time.time_ns()
    name, about = f"h-{job}"[:40], {"tenant": tenant, "job": f"h-{job}"[:40]}
    record = JobRecord(
        **about,
        name="n",
        state="queued",
        created_unix_ns=now,
        content_hash="h",
        runs_on=["nowhere"],
        needs=needs,
        timeout_seconds=60,
        step_count=1,
        submitted_by="fuzz",
        write_id="w",
    )
    placed = _of(record) | {"state": "placed", "epoch": 1, "placed_unix_ns": now}
    over = _of(record) | {"state": "failed", "ended_unix_ns": now, "epoch": 1}
    order = Order(
        **about,
        epoch=1,
        cluster=CLUSTER,
        target=MACHINE,
        desired=Desired.RUN,
        needs=needs,
        on_lost="rerun",
        fence_seconds=1,
        timeout_seconds=1,
        term=1,
    )
    seen = MachineSeen(
        cluster=CLUSTER,
        machine=MACHINE,
        pool="p",
        version=1,
        state="ready",
        isolation="process",
        labels=[],
        arch="amd64",
        allocatable=Capacity(cpu_millis=0, memory_bytes=0, disk_bytes=0),
        attempts=[],
        session="s",
        seen_unix_ns=now,
    )
    summary = ClusterSeen(cluster="c-fuzz", version=1, pools=[], machines_ready=0, machines_lost=0, seen_unix_ns=now)
    stone = JobForgotten(**about, why="deleted", by="x", at_unix_ns=now, until_unix=0)
    cancel = CancelRequested(**about, by="x", at_unix_ns=now)
    refused = SubmissionRefused(**about, code="c", detail="d", at_unix_ns=now)
    ended = AttemptEnded(**about, epoch=1, at_unix_ns=now, outcome="error", reason=Reason.MACHINE_LOST)
    refusals = RefusalsCounted(since_unix_ns=now, until_unix_ns=now, refusals=[])
    capacity = CapacityCounted(since_unix_ns=now, until_unix_ns=now, cluster=CLUSTER, pools=[])
    asked: dict[str, dict[str, Model]] = {
        "cluster-metrics": {"health": OrdersAsked()},
        "scheduler": {"why": WhyAsked(tenant=tenant, job=job)},
        "cache": {
            "source-upload": SourceUploadAsked(tenant=tenant, sha256="0" * 64, size_bytes=1),
            "source-check": SourceCheckAsked(tenant=tenant, source="0" * 64),
            "download": DownloadAsked(tenant=tenant, key=f"t/{tenant}/artifacts/j/1/a.tar.gz"),
            "forget": ForgetAsked(tenant=tenant, job=name),
        },
        "log-collector": {
            "read": LogAsked(tenant=tenant, job=job, epoch=1, step=1),
            "forget": ForgetAsked(tenant=tenant, job=name),
        },
    }
    return [
        *(Target("hub", str(Job(tenant, name)), body) for body in (_of(record), placed, over)),
        Target("hub", str(Spec(tenant, name)), {"steps": [{"run": "true"}]}),
        Target("hub", str(Done(tenant, name)), over),
        Target("hub", str(Kept(tenant, name)), _of(ArtifactsKept(**about, artifacts=[]))),
        Target("hub", str(Gone(tenant, name)), _of(stone)),
        Target("hub", str(OrderTo(CLUSTER, MACHINE, tenant, name)), _of(order)),
        Target("hub", str(MachineMetrics(CLUSTER, MACHINE)), _of(seen)),
        Target("hub", str(ClusterMetrics("c-fuzz")), _of(summary)),
        Target("hub", str(Evt(tenant, name, 0, cancel.token())), _of(cancel)),
        Target("hub", str(Evt(tenant, name, 0, refused.token())), _of(refused)),
        Target("hub", str(Evt(tenant, name, 1, ended.token())), _of(ended)),
        Target("hub", str(Figures("gateway", refusals.token())), _of(refusals)),
        Target("hub", str(Figures("cluster-metrics", capacity.token())), _of(capacity)),
        *(
            Target("hub", str(Svc(service, op)), _of(body), asks=True)
            for service, ops in asked.items()
            for op, body in ops.items()
        ),
    ]


def writable(parties: tuple[Party, ...]) -> set[str]:
    """Subjects, with wildcards, that these may write; the DLQ apart, which is where poison goes and nobody reads."""
    return {subject for party in parties for subject in party.publishes if not subject.startswith("dlq.")}
