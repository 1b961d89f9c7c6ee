"""The figures of an attempt or a job that is over. Pure; the one leader tells them, when its move stood."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.scheduler.model import NS, Over
from shared import metrics
from shared.facts import JobRecord
from shared.job_spans import RESULTS
from shared.metrics import Counter, Histogram
from shared.system_time import START_TARGET_SECONDS, seconds_between, system_time
from shared.telemetry import Attributes, count, observe


@dataclass(frozen=True, slots=True)
class Measured:
    metric: Counter | Histogram
    value: float = 1
    attributes: Attributes = field(default_factory=dict)

    def tell(self) -> None:
        if isinstance(self.metric, Counter):
            count(self.metric, self.value, self.attributes)
        else:
            observe(self.metric, self.value, self.attributes)


def measure(record: JobRecord, over: Over) -> Iterator[Measured]:
    """`record` is what the job became."""
    yield from _reserved(over)
    if not record.ended:
        reason = over.ended.reason.value if over.ended else "_OTHER"
        yield Measured(metrics.RETRIED, attributes={metrics.ERROR: reason})
        return
    result, tenant = RESULTS[record.state], {metrics.TENANT: record.tenant}
    yield from _started(record, over, tenant)
    yield from _durations(record, over, {**tenant, metrics.RESULT: result})
    if result in ("failure", "error", "timeout"):
        reason = record.reason.value if record.reason else "_OTHER"
        yield Measured(metrics.RUN_ERRORS, attributes={**tenant, metrics.ERROR: reason})
    yield from _system_time(record, over)


def _started(record: JobRecord, over: Over, tenant: Attributes) -> Iterator[Measured]:
    first = min(over.accepted_unix_ns.values(), default=None)
    waited = seconds_between(record.created_unix_ns, first or record.ended_unix_ns) or 0.0
    in_time = waited <= START_TARGET_SECONDS
    # Cancelled before it was late: it can't be known.
    if first is not None or not in_time:
        yield Measured(metrics.STARTED, attributes={**tenant, "overspill.in_time": in_time and first is not None})


def _durations(record: JobRecord, over: Over, attributes: Attributes) -> Iterator[Measured]:
    accepted = over.accepted_unix_ns.get(record.epoch)
    ended = over.ended.at_unix_ns if over.ended else None
    for state, begin, end in (
        ("pending", record.created_unix_ns, accepted or record.ended_unix_ns),
        ("executing", accepted, ended),
        ("finalizing", ended, record.ended_unix_ns if accepted else None),
    ):
        seconds = seconds_between(begin, end)
        if seconds is not None:
            yield Measured(metrics.RUN_DURATION, seconds, {**attributes, metrics.STATE: state})


def _system_time(record: JobRecord, over: Over) -> Iterator[Measured]:
    if over.ended is None or record.placed_unix_ns is None or record.epoch not in over.accepted_unix_ns:
        return
    times = system_time(
        created_unix_ns=record.created_unix_ns,
        placed_unix_ns=record.placed_unix_ns,
        accepted_unix_ns=over.accepted_unix_ns[record.epoch],
        prepare_seconds=over.ended.spans.prepare_seconds,
        handover_seconds=over.ended.spans.handover_seconds,
        finish_seconds=over.ended.spans.finish_seconds,
        attempt_ended_unix_ns=over.ended.at_unix_ns,
        ended_unix_ns=record.ended_unix_ns,
    )
    for part, seconds in times.parts().items():
        yield Measured(metrics.SYSTEM_TIME, seconds, {"overspill.part": part})


def _reserved(over: Over) -> Iterator[Measured]:
    """What the attempt kept from others, from its placement to its end."""
    before = over.before
    if over.ended is None or before.placement is None or before.placed_unix_ns is None:
        return
    seconds = max(0.0, (over.ended.at_unix_ns - before.placed_unix_ns) / NS)
    where = {metrics.CLUSTER: before.placement.cluster, metrics.POOL: before.placement.pool}
    yield Measured(metrics.CPU_REQUESTED_TIME, seconds * before.needs.cpu_millis / 1000, where)
    yield Measured(metrics.MEMORY_REQUESTED_TIME, seconds * before.needs.memory_bytes, where)
