"""Who may say and hear what of `shared.flow`: credentials are cut from these parties, and accounts import what crosses.

A test compares them with what each service really does.
"""

from dataclasses import dataclass, field
from typing import Literal

from shared.flow import (
    CLUSTERS,
    DLQ,
    DONE,
    EVT,
    FIGURES,
    JOBS,
    LEASE,
    LIMITS,
    LOG,
    METRICS,
    ORDERS,
    SUBMIT,
    TENANTS,
    WALLS,
    Ask,
    Beat,
    Buried,
    ClusterMetrics,
    DesiredAt,
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
    Tail,
)
from shared.pods import KUBE
from shared.stream import Bucket, Stream


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
    subscribes=(Tail.filter(), svc("gateway"), Edge.filter(op="grant"), Edge.filter(op="walls")),
    reads=(JOBS, EVT, DONE, METRICS, DLQ, FIGURES),
    works=(SUBMIT,),
    buckets=(TENANTS, CLUSTERS, LIMITS, WALLS),
    writes_buckets=(TENANTS, CLUSTERS, LIMITS, WALLS),
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
    subscribes=(svc("scheduler"), Edge.filter(op="orders"), Ask.filter(op="desired")),
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


def controller_party(cluster: str) -> Party:
    """A Kubernetes cluster's controller: what an agent does for its machine, it does for all pods; it beats for the
    nodes.
    """
    return Party(
        f"controller-{cluster}",
        "cluster",
        publishes=(
            Evt.filter(kind="attempt-accepted"),
            Evt.filter(kind="attempt-ended"),
            Beat.filter(cluster=cluster),
            Edge.filter(cluster=cluster, machine=KUBE),
        ),
        subscribes=(DesiredAt.filter(cluster=cluster, target=KUBE),),
        why="runs attempts as pods, and shows the cluster's nodes",
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
        subscribes=(DesiredAt.filter(tenant=tenant, job=job),),
        why="tells what its attempt does, and hears what should be of its job",
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
    """Of the account of a tenant's attempts. Orders come in, for whatever cluster, since a pod has nobody else to bring
    them; an attempt's own credential lets it hear those of its job alone.

    Apart from its services': the answer to a message is sent, in the sender's account, wherever the sender wants it,
    so whatever that account may reach without a wildcard an attempt could reach too.
    """
    return Crossing(
        services=(Evt.filter(tenant=tenant), LogTo.filter(tenant=tenant), Ask.filter(tenant=tenant)),
        streams=(DesiredAt.filter(tenant=tenant),),
    )


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
