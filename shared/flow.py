"""Everything that crosses the bus, on one page. Streams are created from it and credentials are cut from it; a test
compares it with what each service really does.

Push wakes, pull tells: what arrives live (feeds, desired state, tails) may be missed, and every reader can ask for
the truth.
"""

from dataclasses import dataclass, field
from typing import Literal

from shared.stream import Bucket, Stream
from shared.subject import Subject


@dataclass(frozen=True, slots=True)
class Job(Subject):
    pattern = "job.{tenant}.{job}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Spec(Subject):
    pattern = "spec.{tenant}.{job}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Done(Subject):
    pattern = "done.{tenant}.{job}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Kept(Subject):
    """What a job's history needs for longer than EVT keeps facts: its artifacts."""

    pattern = "kept.{tenant}.{job}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Gone(Subject):
    """The job is to be forgotten everywhere: written first, everything else follows from it (docs/adr/0010)."""

    pattern = "gone.{tenant}.{job}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Submit(Subject):
    pattern = "submit.{tenant}"
    tenant: str


@dataclass(frozen=True, slots=True)
class OrderTo(Subject):
    """Desired state of one attempt, read by the edge through `Desired…` (live) and `Edge… orders` (the truth)."""

    pattern = "order.{cluster}.{target}.{tenant}.{job}"
    cluster: str
    target: str
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class DesiredAt(Subject):
    """ORDERS republished: what wakes the edge."""

    pattern = "desired.{cluster}.{target}.{tenant}.{job}"
    cluster: str
    target: str
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Evt(Subject):
    """A fact about one attempt; epoch 0 holds what the hub says of the job itself. `kind` is Fact.token()."""

    pattern = "evt.{tenant}.{job}.{epoch}.{kind}"
    tenant: str
    job: str
    epoch: int
    kind: str


@dataclass(frozen=True, slots=True)
class RecordCopy(Subject):
    """JOBS sourced into EVT: records appear among the facts without a second publish."""

    pattern = "evt.{tenant}.{job}.record"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class LogTo(Subject):
    """Where the runner publishes chunks."""

    pattern = "log.{tenant}.{job}.{epoch}.{step}"
    tenant: str
    job: str
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class LogAt(Subject):
    """How LOG stores chunks: with a partition token, so that partitions can have owners."""

    pattern = "logs.{partition}.{tenant}.{job}.{epoch}.{step}"
    partition: int
    tenant: str
    job: str
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Tail(Subject):
    """LOG republished: live chunks for followers."""

    pattern = "tail.{tenant}.{job}.{epoch}.{step}"
    tenant: str
    job: str
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class MachineMetrics(Subject):
    pattern = "metrics.{cluster}.node.{machine}"
    cluster: str
    machine: str


@dataclass(frozen=True, slots=True)
class ClusterMetrics(Subject):
    pattern = "metrics.{cluster}.summary"
    cluster: str


@dataclass(frozen=True, slots=True)
class Beat(Subject):
    pattern = "hb.{cluster}.{machine}"
    cluster: str
    machine: str


@dataclass(frozen=True, slots=True)
class Ask(Subject):
    """A runner asks for what concerns its own attempt: op `urls` (cache), `durable` (log-collector)."""

    pattern = "ask.{tenant}.{job}.{epoch}.{op}"
    tenant: str
    job: str
    epoch: int
    op: str


@dataclass(frozen=True, slots=True)
class Edge(Subject):
    """An edge asks for what concerns it: op `orders` (scheduler), `grant` (gateway)."""

    pattern = "edge.{cluster}.{machine}.{op}"
    cluster: str
    machine: str
    op: str


@dataclass(frozen=True, slots=True)
class Svc(Subject):
    """Hub services ask each other."""

    pattern = "svc.{service}.{op}"
    service: str
    op: str


@dataclass(frozen=True, slots=True)
class Buried(Subject):
    """What could not be handled, with why in header `Overspill-Why` and its subject in `Overspill-Subject`.

    `sender` is the tenant or cluster it came from, as its subject says: each has a bound of its own, so that nobody's
    flood pushes out what others wrote.
    """

    pattern = "dlq.{service}.{sender}"
    service: str
    sender: str


@dataclass(frozen=True, slots=True)
class Figures(Subject):
    """What a service counted over a stretch of time. `kind` is Fact.token()."""

    pattern = "figures.{service}.{kind}"
    service: str
    kind: str


HOUR = 3600
DAY = 24 * HOUR
LOG_PARTITIONS = 16
LOG_BACKLOG_CHUNKS = 8192
"""Of one log: half a gibibyte. A step that writes faster than logs become durable waits for itself, its log being on
its machine's disk; the logs of others go on."""


JOBS = Stream("JOBS", (Job.filter(), Spec.filter()), max_message_bytes=524_288)
EVT = Stream(
    "EVT",
    (Evt.filter(),),
    keeps_seconds=7 * DAY,
    duplicate_window_seconds=600,
    sources=("JOBS", Job.filter(), "evt.{{wildcard(1)}}.{{wildcard(2)}}.record"),
    republish=("evt.>", "feed.>"),
)
SUBMIT = Stream("SUBMIT", (Submit.filter(),), policy="workqueue", discard="new", share=0.1, max_message_bytes=524_288)
# Not `last_only`: nothing tells a server that was killed what that limit had removed, and the message before a purged
# one would stand again. A purge is remembered, so it has to be the one to remove all of an order's versions.
ORDERS = Stream("ORDERS", (OrderTo.filter(),), republish=("order.>", "desired.>"))
LOG = Stream(
    "LOG",
    (LogTo.filter(),),
    keeps_seconds=24 * HOUR,
    max_messages_per_subject=LOG_BACKLOG_CHUNKS,
    discard="new",
    share=0.4,
    transform=(
        LogTo.filter(),
        f"logs.{{{{partition({LOG_PARTITIONS},1,2)}}}}." + ".".join(f"{{{{wildcard({n})}}}}" for n in (1, 2, 3, 4)),
    ),
    republish=("logs.*.*.*.*.*", "tail." + ".".join(f"{{{{wildcard({n})}}}}" for n in (2, 3, 4, 5))),
)
DONE = Stream("DONE", (Done.filter(), Kept.filter(), Gone.filter()), max_message_bytes=65_536)
METRICS = Stream("METRICS", (MachineMetrics.filter(), ClusterMetrics.filter()), last_only=True, keeps_seconds=DAY)
DLQ = Stream("DLQ", (Buried.filter(),), keeps_seconds=30 * DAY, max_messages_per_subject=256, share=0.02)
FIGURES = Stream("FIGURES", (Figures.filter(),), keeps_seconds=8 * DAY, duplicate_window_seconds=600)

STREAMS = (JOBS, EVT, SUBMIT, ORDERS, LOG, DONE, METRICS, DLQ, FIGURES)
"""In the order of creation: EVT sources JOBS."""


TENANTS = Bucket("TENANTS")
CLUSTERS = Bucket("CLUSTERS")
LIMITS = Bucket("LIMITS")
LEASE = Bucket("LEASE", per_key_ttl=True)
BUCKETS = (TENANTS, CLUSTERS, LIMITS, LEASE)


@dataclass(frozen=True, slots=True)
class Party:
    """Who may do what: the publish and subscribe permissions of its credential are these subjects, and nothing else."""

    name: str
    account: Literal["hub", "cluster", "tenant", "attempts"]
    """`tenant` is that of a tenant's services, `attempts` that of a tenant's attempts."""
    publishes: tuple[str, ...]
    subscribes: tuple[str, ...] = ()
    reads: tuple[Stream, ...] = ()
    works: tuple[Stream, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    writes_buckets: tuple[Bucket, ...] = ()
    purges: tuple[Stream, ...] = ()
    sizes: tuple[Stream, ...] = ()
    """May ask how full these are, and the store as a whole."""
    why: str = ""


def svc(service: str) -> str:
    return Svc.filter(service=service)


GATEWAY = Party(
    "gateway",
    "hub",
    publishes=(
        Job.filter(),
        Spec.filter(),
        Evt.filter(epoch=0, kind="job-cancel-requested"),
        Evt.filter(epoch=0, kind="submission-refused"),
        svc("scheduler"),
        svc("cache"),
        svc("log-collector"),
        svc("cluster-metrics"),
        Figures.filter(service="gateway"),
        Gone.filter(),
        Buried.filter(service="gateway"),
    ),
    subscribes=(Tail.filter(), svc("gateway"), Edge.filter(op="grant")),
    reads=(JOBS, EVT, DONE, METRICS, DLQ, FIGURES),
    works=(SUBMIT,),
    buckets=(TENANTS, CLUSTERS, LIMITS),
    writes_buckets=(TENANTS, CLUSTERS, LIMITS),
    sizes=(JOBS, LOG),
    why="admits jobs by both doors, answers people, grants accepted attempts their credentials",
)
SCHEDULER = Party(
    "scheduler",
    "hub",
    publishes=(
        Job.filter(),
        OrderTo.filter(),
        Done.filter(),
        Kept.filter(),
        Gone.filter(),
        Evt.filter(kind="attempt-ended"),
        str(Svc("cache", "forget")),
        str(Svc("log-collector", "forget")),
        Buried.filter(service="scheduler"),
    ),
    subscribes=(svc("scheduler"), Edge.filter(op="orders")),
    reads=(JOBS, EVT, METRICS, ORDERS, DONE),
    buckets=(TENANTS, CLUSTERS, LIMITS, LEASE),
    writes_buckets=(LEASE, TENANTS),
    purges=(JOBS, ORDERS, DONE, EVT, SUBMIT, DLQ),
    why="moves every job from queued to its end, and out of the history; only the leader writes",
)
CLUSTER_METRICS = Party(
    "cluster-metrics",
    "hub",
    publishes=(
        MachineMetrics.filter(),
        ClusterMetrics.filter(),
        Figures.filter(service="cluster-metrics"),
        Buried.filter(service="cluster-metrics"),
    ),
    subscribes=(Beat.filter(), svc("cluster-metrics")),
    reads=(METRICS,),
    buckets=(CLUSTERS,),
    purges=(METRICS,),
    why="turns heartbeats into each cluster's picture",
)
LOG_COLLECTOR = Party(
    "log-collector",
    "hub",
    publishes=(svc("log-collector"), Buried.filter(service="log-collector")),
    subscribes=(svc("log-collector"), Ask.filter(op="durable")),
    reads=(LOG,),
    buckets=(LEASE,),
    writes_buckets=(LEASE,),
    purges=(LOG,),
    why="turns chunks into parts in the object store; answers what is durable and what a log says",
)
CACHE = Party(
    "cache",
    "hub",
    publishes=(Buried.filter(service="cache"),),
    subscribes=(svc("cache"), Ask.filter(op="urls")),
    reads=(JOBS,),
    buckets=(TENANTS, CLUSTERS),
    why="the one door to the object store: presigned addresses, expiry",
)
HUB_PARTIES = (GATEWAY, SCHEDULER, CLUSTER_METRICS, LOG_COLLECTOR, CACHE)


def machine_party(cluster: str, machine: str) -> Party:
    """An agent: claims and gives up attempts, beats, asks. Its account imports only its cluster's subjects."""
    return Party(
        f"machine-{machine}",
        "cluster",
        publishes=(
            Evt.filter(kind="attempt-accepted"),
            Evt.filter(kind="attempt-ended"),
            str(Beat(cluster, machine)),
            Edge.filter(cluster=cluster, machine=machine),
        ),
        subscribes=(DesiredAt.filter(cluster=cluster, target=machine),),
        why="runs attempts on a machine",
    )


def attempt_party(tenant: str, job: str, epoch: int) -> Party:
    """The runner of one attempt: one epoch of one job, nothing else."""
    return Party(
        f"attempt-{job}-{epoch}",
        "attempts",
        publishes=(
            Evt.filter(tenant=tenant, job=job, epoch=epoch),
            LogTo.filter(tenant=tenant, job=job, epoch=epoch),
            Ask.filter(tenant=tenant, job=job, epoch=epoch),
        ),
        why="tells what its attempt does",
    )


def service_party(tenant: str) -> Party:
    """Any service of a tenant: the bus door."""
    return Party(
        f"service-{tenant}",
        "tenant",
        publishes=(str(Submit(tenant)),),
        subscribes=(f"feed.{tenant}.>",),
        why="submits jobs and follows them",
    )


@dataclass(frozen=True, slots=True)
class Crossing:
    """What an account may import from the hub's. Services carry requests inward (their reply subject is the server's
    own,
    so it can't be spoofed); streams carry messages outward.
    """

    services: tuple[str, ...] = field(default=())
    streams: tuple[str, ...] = field(default=())


EXPORTS = Crossing(
    services=(Submit.filter(), Evt.filter(), LogTo.filter(), Ask.filter(), Edge.filter(), Beat.filter()),
    streams=("feed.>", "desired.>"),
)


def tenant_imports(tenant: str) -> Crossing:
    """Of the account of a tenant's services."""
    return Crossing(services=(str(Submit(tenant)),), streams=(f"feed.{tenant}.>",))


def attempts_imports(tenant: str) -> Crossing:
    """Of the account of a tenant's attempts.

    Apart from its services': the answer to a message is sent, in the sender's account, wherever the sender wants it,
    so whatever that account may reach without a wildcard an attempt could reach too.
    """
    return Crossing(services=(Evt.filter(tenant=tenant), LogTo.filter(tenant=tenant), Ask.filter(tenant=tenant)))


def cluster_imports(cluster: str, tenants: tuple[str, ...] | None = None) -> Crossing:
    """`tenants` None: a shared cluster, which serves all; else only these may run there."""
    whose = ("*",) if tenants is None else tenants
    return Crossing(
        services=(
            *(Evt.filter(tenant=tenant) for tenant in whose),
            Edge.filter(cluster=cluster),
            Beat.filter(cluster=cluster),
        ),
        streams=(f"desired.{cluster}.>",),
    )
