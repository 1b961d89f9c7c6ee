"""Every figure that is exported, on one page: names, units, attributes. Dashboards and alerts are written with it.

Names of OpenTelemetry's CI/CD and HTTP conventions where there is one, else `overspill.`. Attributes are bounded: a
tenant's name may be one, a job's id or name never. `cicd.pipeline.name`, which the conventions want, is the submitter's
free text and so left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TENANT = "overspill.tenant"
CLUSTER, POOL = "overspill.cluster", "overspill.pool"
RESULT, STATE = "cicd.pipeline.result", "cicd.pipeline.run.state"
ERROR = "error.type"

Levels = Mapping[tuple[str, ...], float]
"""A gauge's values by the values of its attributes, in their declared order."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""From a hand-over to a long queue."""
LONG_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200)
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The convention's own."""


@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS


@dataclass(frozen=True, slots=True)
class Gauge:
    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    sums_up: bool = True
    """Adding it over its attributes means something."""


Metric = Counter | Histogram | Gauge

# Stability: accepted jobs that started in time and ended truthfully.
ACCEPTED = Counter("overspill.jobs.accepted", "{job}", "Jobs the platform promised to run.", (TENANT, "overspill.door"))
STARTED = Counter(
    "overspill.jobs.started", "{job}", "Jobs by whether they started within the target.", (TENANT, "overspill.in_time")
)
RUN_DURATION = Histogram(
    "cicd.pipeline.run.duration",
    "s",
    "Time of jobs, by the state they spent it in, and their result.",
    (TENANT, STATE, RESULT),
    LONG_SECONDS,
)
RUN_ERRORS = Counter("cicd.pipeline.run.errors", "{error}", "Jobs that did not succeed, by reason.", (TENANT, ERROR))
RETRIED = Counter("overspill.attempts.retried", "{attempt}", "Attempts lost by our fault, and tried again.", (ERROR,))
RUN_ACTIVE = Gauge("cicd.pipeline.run.active", "{run}", "Jobs that are not over, by state.", (STATE,))
QUEUE_OLDEST = Gauge("overspill.queue.oldest", "s", "Wait so far of the job that waits longest.", sums_up=False)

# Speed: the platform's own time.
SYSTEM_TIME = Histogram(
    "overspill.job.system.time", "s", "The platform's own time in a job, by part.", ("overspill.part",)
)

# Cost: idle and used capacity.
CPU_TIME = Counter("overspill.capacity.cpu.time", "s", "Core-seconds machines had to give.", (CLUSTER, POOL))
CPU_REQUESTED_TIME = Counter(
    "overspill.requested.cpu.time", "s", "Core-seconds attempts had reserved.", (CLUSTER, POOL)
)
MEMORY_TIME = Counter(
    "overspill.capacity.memory.byte_seconds", "{By.s}", "Byte-seconds of memory machines had to give.", (CLUSTER, POOL)
)
MEMORY_REQUESTED_TIME = Counter(
    "overspill.requested.memory.byte_seconds",
    "{By.s}",
    "Byte-seconds of memory attempts had reserved.",
    (CLUSTER, POOL),
)
CPU = Gauge("overspill.capacity.cpu", "{core}", "Cores of ready machines.", (CLUSTER, POOL))
MEMORY = Gauge("overspill.capacity.memory", "By", "Memory of ready machines.", (CLUSTER, POOL))
CPU_REQUESTED = Gauge("overspill.requested.cpu", "{core}", "Cores reserved by placed jobs.", (CLUSTER, POOL))
MEMORY_REQUESTED = Gauge("overspill.requested.memory", "By", "Memory reserved by placed jobs.", (CLUSTER, POOL))
WORKERS = Gauge("cicd.worker.count", "{worker}", "Machines by state.", (CLUSTER, POOL, "cicd.worker.state"))
PODS = Gauge("overspill.pods", "{pod}", "Pods of jobs by phase.", (CLUSTER, POOL, "overspill.pod.phase"))
PODS_PENDING = Gauge(
    "overspill.pods.pending", "{pod}", "Pods of jobs that wait, by why.", (CLUSTER, POOL, "overspill.pending.reason")
)

# Security: refusals.
REFUSED = Counter("overspill.refusals", "{refusal}", "What a door refused, by why.", ("overspill.refusal.kind",))

# The parts themselves.
SYSTEM_ERRORS = Counter(
    "cicd.system.errors", "{error}", "What a part of the platform could not handle.", ("cicd.system.component", ERROR)
)
LEADING = Gauge("overspill.scheduler.leading", "{instance}", "Scheduler instances that lead.")
HTTP_DURATION = Histogram(
    "http.server.request.duration",
    "s",
    "Time of HTTP requests until their answer begins.",
    ("http.request.method", "http.route", "http.response.status_code"),
    HTTP_SECONDS,
)
LOG_STORED = Counter("overspill.log.stored", "By", "Log bytes made durable.")

METRICS: tuple[Metric, ...] = tuple(
    value for value in dict(globals()).values() if isinstance(value, Counter | Histogram | Gauge)
)
