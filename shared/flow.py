"""Everything that crosses the bus, on one page. Streams are created from it; `shared.parties` says who writes and reads
each of it, and a test compares both with what each service really does.

Push wakes, pull tells: what arrives live (feeds, desired state, tails) may be missed, and every reader can ask for
the truth.
"""

from shared.stream import Bucket, Stream
from shared.subject import Subject


class Job(Subject):
    pattern = "job.{tenant}.{job}"
    tenant: str
    job: str


class Spec(Subject):
    pattern = "spec.{tenant}.{job}"
    tenant: str
    job: str


class Done(Subject):
    pattern = "done.{tenant}.{job}"
    tenant: str
    job: str


class Kept(Subject):
    """What a job's history needs for longer than EVT keeps facts: its artifacts."""

    pattern = "kept.{tenant}.{job}"
    tenant: str
    job: str


class Gone(Subject):
    """The job is to be forgotten everywhere: written first, everything else follows from it (docs/adr/0010)."""

    pattern = "gone.{tenant}.{job}"
    tenant: str
    job: str


class Submit(Subject):
    pattern = "submit.{tenant}"
    tenant: str


class OrderTo(Subject):
    """Desired state of one attempt, read by the edge through `Desired…` (live) and `Edge… orders` (the truth)."""

    pattern = "order.{cluster}.{target}.{tenant}.{job}"
    cluster: str
    target: str
    tenant: str
    job: str


class DesiredAt(Subject):
    """ORDERS republished: what wakes the edge."""

    pattern = "desired.{cluster}.{target}.{tenant}.{job}"
    cluster: str
    target: str
    tenant: str
    job: str


class Evt(Subject):
    """A fact about one attempt; epoch 0 holds what the hub says of the job itself. `kind` is Fact.token()."""

    pattern = "evt.{tenant}.{job}.{epoch}.{kind}"
    tenant: str
    job: str
    epoch: int
    kind: str


class RecordCopy(Subject):
    """JOBS sourced into EVT: records appear among the facts without a second publish."""

    pattern = "evt.{tenant}.{job}.record"
    tenant: str
    job: str


class LogTo(Subject):
    """Where the runner publishes chunks."""

    pattern = "log.{tenant}.{job}.{epoch}.{step}"
    tenant: str
    job: str
    epoch: int
    step: int


class LogAt(Subject):
    """How LOG stores chunks: with a partition token, so that partitions can have owners."""

    pattern = "logs.{partition}.{tenant}.{job}.{epoch}.{step}"
    partition: int
    tenant: str
    job: str
    epoch: int
    step: int


class Tail(Subject):
    """LOG republished: live chunks for followers."""

    pattern = "tail.{tenant}.{job}.{epoch}.{step}"
    tenant: str
    job: str
    epoch: int
    step: int


class MachineMetrics(Subject):
    pattern = "metrics.{cluster}.node.{machine}"
    cluster: str
    machine: str


class ClusterMetrics(Subject):
    pattern = "metrics.{cluster}.summary"
    cluster: str


class Beat(Subject):
    pattern = "hb.{cluster}.{machine}"
    cluster: str
    machine: str


class Ask(Subject):
    """A runner asks for what concerns its own attempt: op `urls` (cache), `durable` (log-collector),
    `desired` (scheduler).
    """

    pattern = "ask.{tenant}.{job}.{epoch}.{op}"
    tenant: str
    job: str
    epoch: int
    op: str


class Edge(Subject):
    """An edge asks for what concerns it: op `orders` (scheduler), `grant` and, from a controller, `walls` (gateway)."""

    pattern = "edge.{cluster}.{machine}.{op}"
    cluster: str
    machine: str
    op: str


class Svc(Subject):
    """Hub services ask each other."""

    pattern = "svc.{service}.{op}"
    service: str
    op: str


class Buried(Subject):
    """What could not be handled, with why in header `Overspill-Why` and its subject in `Overspill-Subject`.

    `sender` is the tenant or cluster it came from, as its subject says: each has a bound of its own, so that nobody's
    flood pushes out what others wrote.
    """

    pattern = "dlq.{service}.{sender}"
    service: str
    sender: str


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

SUBMIT_BACKLOG = 10_000
"""Of one tenant's events that nobody took yet: the server refuses its next at once, and those of others go on."""


JOBS = Stream("JOBS", (Job.filter(), Spec.filter()), max_message_bytes=524_288)
EVT = Stream(
    "EVT",
    (Evt.filter(),),
    keeps_seconds=7 * DAY,
    duplicate_window_seconds=600,
    sources=("JOBS", Job.filter(), "evt.{{wildcard(1)}}.{{wildcard(2)}}.record"),
    republish=("evt.>", "feed.>"),
)
SUBMIT = Stream(
    "SUBMIT",
    (Submit.filter(),),
    policy="workqueue",
    max_messages_per_subject=SUBMIT_BACKLOG,
    discard="new",
    share=0.1,
    max_message_bytes=524_288,
)
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
WALLS = Bucket("WALLS")
"""How a tenant's walls stand in a cluster, as its controller told: key `<cluster>.<tenant>`."""
LEASE = Bucket("LEASE", per_key_ttl=True)
BUCKETS = (TENANTS, CLUSTERS, LIMITS, WALLS, LEASE)
