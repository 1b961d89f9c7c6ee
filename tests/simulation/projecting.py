"""The gateway's projection of a history, by the real fold, from EVT as it was delivered."""

import sqlite3

from services.gateway.projection.fold import FINAL_SEQ, SOURCE_HEADER, fold, record_statements
from services.gateway.projection.schema import CONTENT, TABLES
from shared.bus import Message
from shared.facts import JobRecord
from shared.flow import Evt, RecordCopy
from shared.lifecycle import JobState
from shared.wire import encode
from tests.simulation.checks import Broken
from tests.simulation.kernel import Kernel
from tests.simulation.streams import Net, Stored

_opened: list[sqlite3.Connection] = []


def _database() -> sqlite3.Connection:
    """One a process, emptied each time: making the tables costs more than a history."""
    if not _opened:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(TABLES)
        _opened.append(connection)
    for table in CONTENT:
        _opened[0].execute(f"DELETE FROM {table}")
    return _opened[0]


def _message(stored: Stored) -> Message:
    if stored.subject[-1] == "record":
        source: Stored = stored.fact
        headers = {SOURCE_HEADER: f"JOBS {source.seq} job.> evt.>"}
        subject = RecordCopy(*stored.subject[:2])
        return Message(str(subject), encode(source.fact), headers, stored.seq, int(stored.at * 1e9))
    return Message(str(Evt(*stored.subject)), encode(stored.fact), {}, stored.seq, int(stored.at * 1e9))


def one_verdict_everywhere(net: Net, kernel: Kernel, ended: dict[tuple[str, str], JobRecord]) -> None:
    """One verdict a job in JOBS, DONE and the projection alike, however often and in whatever order its parts come."""
    straight = _dump([_message(stored) for stored in net.evt.log], [])
    messages = [_message(stored) for stored in net.evt.log]
    again = kernel.random.randrange(len(messages) + 1)
    restarted = _dump([*messages[: again + 3], *messages[max(0, again - 5) :]], [])
    rebuilt = _dump(messages, list(net.done.last.values()))
    states = {key: record.state for key, record in ended.items()}
    for name, rows in (("followed", straight), ("restarted", restarted), ("rebuilt", rebuilt)):
        told = {(tenant, job): JobState(state) for tenant, job, state in rows["verdicts"]}
        if told != states:
            raise Broken("one_verdict_everywhere", None, f"the {name} projection says {told}, JOBS {states}")
        if rows["rest"] != straight["rest"]:
            raise Broken("one_verdict_everywhere", None, f"the {name} projection differs from the one that followed")


def _dump(messages: list[Message], done: list[Stored]) -> dict[str, list]:
    database = _database()
    database.execute("BEGIN")
    for stored in done:
        for sql, values in record_statements(stored.fact, encode(stored.fact), FINAL_SEQ):
            database.execute(sql, values)
    for message in messages:
        for sql, values in fold(message).statements:
            database.execute(sql, values)
    database.execute("COMMIT")
    rest = [database.execute(f"SELECT * FROM {table}").fetchall() for table in ("events", "attempts", "steps")]
    return {"verdicts": database.execute("SELECT tenant, job, state FROM jobs").fetchall(), "rest": rest}
