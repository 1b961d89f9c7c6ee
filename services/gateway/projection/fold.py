"""One message of EVT (or record of JOBS, DONE) as statements. Pure: bytes in, SQL with its values out.

Every statement can run twice, and says in its own condition what may not be overwritten.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from services.gateway.projection import measures
from shared.bus import Message
from shared.errors import Poison
from shared.facts import (
    ArtifactsKept,
    ArtifactStored,
    AttemptAccepted,
    AttemptEnded,
    AttemptStarted,
    CancelRequested,
    Fact,
    JobRecord,
    StepEnded,
    StepReady,
    StepStarted,
    StepSummarised,
    SubmissionRefused,
)
from shared.flow import Evt, Kept, RecordCopy
from shared.lifecycle import TERMINAL
from shared.wire import decode

Statement = tuple[str, tuple[Any, ...]]

SOURCE_HEADER = "Nats-Stream-Source"
LARGEST = 2**63 - 1
"""That SQLite can hold."""
FINAL_SEQ = 2**62
"""Of a record out of history: newer than every other."""

_ENDED = ", ".join(f"'{state.value}'" for state in sorted(TERMINAL))
_RECORD = f"""
INSERT INTO jobs (tenant, job, name, state, epoch, created_ns, record, record_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET name = excluded.name, state = excluded.state, epoch = excluded.epoch,
    created_ns = excluded.created_ns, record = excluded.record, record_seq = excluded.record_seq
WHERE excluded.record_seq > jobs.record_seq AND jobs.state NOT IN ({_ENDED})
"""  # noqa: S608 - the words of our own enumeration
_LABEL = "INSERT OR IGNORE INTO labels (tenant, key, value, created_ns, job) VALUES (?, ?, ?, ?, ?)"
_EVENT = "INSERT OR IGNORE INTO events (tenant, job, seq, epoch, type, time_ns, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ACCEPTED = """
INSERT INTO attempts (tenant, job, epoch, cluster, machine, accepted_ns) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET cluster = excluded.cluster, machine = excluded.machine, accepted_ns = excluded.accepted_ns
WHERE accepted_ns IS NULL
"""
_STARTED = """
INSERT INTO attempts (tenant, job, epoch, machine, started_ns) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET started_ns = excluded.started_ns, machine = excluded.machine WHERE started_ns IS NULL
"""
_ENDED_ATTEMPT = """
INSERT INTO attempts (tenant, job, epoch, ended_ns, ended) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ended_ns = excluded.ended_ns, ended = excluded.ended WHERE ended_ns IS NULL
"""
_STEP = """
INSERT INTO steps (tenant, job, epoch, step, name, {column}) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET {column} = excluded.{column}, name = excluded.name WHERE {column} IS NULL
"""
_KEPT = "INSERT OR REPLACE INTO kept (tenant, job, fact) VALUES (?, ?, ?)"
_SUMMARY = "INSERT OR REPLACE INTO summaries (tenant, job, epoch, step, markdown) VALUES (?, ?, ?, ?, ?)"
_ARTIFACT = "INSERT OR REPLACE INTO artifacts (tenant, job, epoch, name, fact) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Folded:
    tenant: str
    job: str
    statements: tuple[Statement, ...]


def fold(message: Message) -> Folded:
    """Raises Poison when it is nothing that belongs into EVT."""
    if message.subject.endswith(".record"):
        copy = RecordCopy.parse(message.subject)
        record = decode(JobRecord, message.data)
        _same_job(record, copy.tenant, copy.job)
        event = _event(message, copy.tenant, copy.job, record.epoch, JobRecord.event_type())
        return Folded(copy.tenant, copy.job, (*record_statements(record, message.data, source_seq(message)), event))
    evt = Evt.parse(message.subject)
    reader = _READERS.get(evt.kind)
    if reader is None:
        # A kind of a newer version: shown in the history, else unknown.
        event_type = f"overspill.{evt.kind}"
        return Folded(evt.tenant, evt.job, (_event(message, evt.tenant, evt.job, evt.epoch, event_type),))
    model, statements = reader
    fact = decode(model, message.data)
    event = _event(message, evt.tenant, evt.job, evt.epoch, model.event_type())
    return Folded(evt.tenant, evt.job, (event, *statements(evt, fact, message)))


def record_statements(record: JobRecord, data: bytes, seq: int) -> Iterator[Statement]:
    created = min(record.created_unix_ns, LARGEST)
    # Whether it came from JOBS or, after that was purged, from DONE: the last word is the last word.
    seq = FINAL_SEQ if record.ended else seq
    head = (record.tenant, record.job, record.name, record.state.value, record.epoch)
    yield _RECORD, (*head, created, data, seq)
    yield measures.UPSERT, measures.values(record, seq)
    for key, value in record.labels.items():
        yield _LABEL, (record.tenant, key, value, created, record.job)


def kept_statements(message: Message) -> Iterator[Statement]:
    """Raises Poison."""
    about = Kept.parse(message.subject)
    decode(ArtifactsKept, message.data)
    yield _KEPT, (about.tenant, about.job, message.data)


def source_seq(message: Message) -> int:
    """The sequence in JOBS of a sourced record: `JOBS <seq> …`. Copies of one job are ordered by it."""
    parts = message.headers.get(SOURCE_HEADER, "").split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _same_job(record: JobRecord, tenant: str, job: str) -> None:
    if (record.tenant, record.job) != (tenant, job):
        raise Poison(why=f"the record at {tenant}.{job} calls itself {record.tenant}.{record.job}")


def _event(message: Message, tenant: str, job: str, epoch: int, event_type: str) -> Statement:
    return _EVENT, (tenant, job, message.seq, epoch, event_type, message.time_unix_ns, message.data)


# Whose a fact is says its subject, which the server checked; what the body says of it is ignored.


def _accepted(evt: Evt, fact: Any, message: Message) -> Iterator[Statement]:
    yield _ACCEPTED, (evt.tenant, evt.job, evt.epoch, fact.cluster, fact.machine, message.time_unix_ns)


def _started(evt: Evt, fact: Any, message: Message) -> Iterator[Statement]:
    yield _STARTED, (evt.tenant, evt.job, evt.epoch, fact.node or fact.machine, message.time_unix_ns)


def _ended(evt: Evt, _: Any, message: Message) -> Iterator[Statement]:
    yield _ENDED_ATTEMPT, (evt.tenant, evt.job, evt.epoch, message.time_unix_ns, message.data)


def _step(column: str) -> "Callable[[Evt, Any, Message], Iterator[Statement]]":
    def statements(evt: Evt, fact: Any, message: Message) -> Iterator[Statement]:
        value = message.data if column == "ended" else min(fact.at_unix_ns, LARGEST)
        yield (
            _STEP.format(column=column),
            (evt.tenant, evt.job, evt.epoch, fact.step, fact.name, value),
        )

    return statements


def _summary(evt: Evt, fact: Any, _: Message) -> Iterator[Statement]:
    yield _SUMMARY, (evt.tenant, evt.job, evt.epoch, fact.step, fact.markdown)


def _nothing(_: Evt, __: Any, ___: Message) -> Iterator[Statement]:
    """Kept in the history only."""
    yield from ()


def _artifact(evt: Evt, fact: Any, message: Message) -> Iterator[Statement]:
    yield _ARTIFACT, (evt.tenant, evt.job, evt.epoch, fact.name, message.data)


_READERS: dict[str, tuple[type[Fact], Callable[[Evt, Any, Message], Iterator[Statement]]]] = {
    AttemptAccepted.token(): (AttemptAccepted, _accepted),
    AttemptStarted.token(): (AttemptStarted, _started),
    AttemptEnded.token(): (AttemptEnded, _ended),
    StepStarted.token(): (StepStarted, _step("started_ns")),
    StepReady.token(): (StepReady, _step("ready_ns")),
    StepEnded.token(): (StepEnded, _step("ended")),
    StepSummarised.token(): (StepSummarised, _summary),
    ArtifactStored.token(): (ArtifactStored, _artifact),
    CancelRequested.token(): (CancelRequested, _nothing),
    SubmissionRefused.token(): (SubmissionRefused, _nothing),
}
