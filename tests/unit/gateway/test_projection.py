"""The read model: facts twice, late or reordered make the same picture; a broken file comes back."""

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.gateway.projection.fold import FINAL_SEQ, fold, record_statements
from services.gateway.projection.reading import Cursor, Filters, JobPicture, Reading
from services.gateway.projection.schema import VERSION
from services.gateway.projection.writing import KEPT_ANCHORS, Anchor, Writer
from shared.bus import Message
from shared.errors import Poison
from shared.facts import ArtifactStored, AttemptAccepted, AttemptEnded, JobRecord, StepEnded, StepStarted
from shared.lifecycle import Reason
from shared.needs import Needs
from shared.wire import encode


def record(job: str = "j1", **changes: object) -> JobRecord:
    base = {
        "tenant": "t1", "job": job, "name": "n", "state": "queued", "created_unix_ns": 5, "content_hash": "h",
        "needs": Needs(cpu_millis=1, memory_bytes=1, disk_bytes=1), "timeout_seconds": 1, "step_count": 1,
        "submitted_by": "x", "write_id": "w",
    }  # fmt: skip
    return JobRecord.model_validate({**base, **changes})


def copy(made: JobRecord, seq: int, jobs_seq: int) -> Message:
    headers = {"Nats-Stream-Source": f"JOBS {jobs_seq} job.*.* evt.x job.t1.j1"}
    return Message(f"evt.t1.{made.job}.record", encode(made), headers, seq, seq)


HEAD = {"tenant": "t1", "job": "j1", "epoch": 1, "at_unix_ns": 10**30}
FACTS = (
    AttemptAccepted(**HEAD, cluster="c1", machine="m1"),
    StepStarted(**HEAD, step=1, name="s"),
    StepEnded(**HEAD, step=1, name="s", state="exited", verdict="ok", exit_code=0, ended_unix_ns=10**30),
    ArtifactStored(**HEAD, name="a", key="k", size_bytes=1, sha256="", files=1, expires_unix=10**30),
    AttemptEnded(**HEAD, outcome="succeeded", reason=Reason.ALL_STEPS_OK, exit_code=0),
)
HISTORY = [
    copy(record(), 1, 1),
    copy(record(state="placed", epoch=1), 2, 2),
    *(Message(f"evt.t1.j1.1.{fact.token()}", encode(fact), {}, at, at) for at, fact in enumerate(FACTS, 3)),
    Message("evt.t1.j1.2.step-started", encode(StepStarted(**{**HEAD, "epoch": 2}, step=1, name="x")), {}, 9, 9),
    Message("evt.t1.j1.1.of-a-later-version", b"{}", {}, 10, 10),
    copy(record(state="succeeded", epoch=1, exit_code=0, ended_unix_ns=8), 11, 3),
]


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    async with Writer(tmp_path / "p.sqlite") as writer:
        yield writer


async def apply(writer: Writer, *messages: Message) -> None:
    for message in messages:
        await writer.apply(fold(message).statements, message.seq, None)


async def picture_after(tmp_path: Path, name: str, messages: list[Message]) -> JobPicture | None:
    path = tmp_path / name
    async with Writer(path) as writer:
        await apply(writer, *messages)
        reading = Reading(path, 1)
        try:
            return await reading.job("t1", "j1")
        finally:
            reading.close()


async def test_facts_twice_late_or_reordered_make_the_same_picture(tmp_path: Path) -> None:
    expected = await picture_after(tmp_path, "in-order", HISTORY)
    assert expected is not None
    assert (expected.record.state, len(expected.steps), len(expected.artifacts)) == ("succeeded", 1, 1)
    chance = random.Random(1)
    for number in range(10):
        shuffled = HISTORY + chance.sample(HISTORY, 5)
        chance.shuffle(shuffled)
        assert await picture_after(tmp_path, f"shuffled-{number}", shuffled) == expected


async def test_what_history_says_of_an_ended_job_stands(tmp_path: Path, writer: Writer) -> None:
    ended = record(state="failed", epoch=1)
    await writer.apply(tuple(record_statements(ended, encode(ended), FINAL_SEQ)), None, None)
    await apply(writer, *HISTORY[:3])
    reading = Reading(tmp_path / "p.sqlite", 1)
    assert (await reading.record("t1", "j1")) == ended
    reading.close()


@pytest.mark.parametrize(
    "message",
    [
        Message("evt.t1.j1.1.step-started", b"{", {}, 1, 1),
        Message("evt.t1.j1.x.step-started", b"{}", {}, 1, 1),
        Message("evt.t1.j1.record", encode(record("other")), {}, 1, 1),
        Message("evt.t1.j1.record", b"{}", {}, 1, 1),
        Message("elsewhere", b"{}", {}, 1, 1),
    ],
)
def test_nonsense_is_poison_and_nothing_else(message: Message) -> None:
    with pytest.raises(Poison):
        fold(message)


async def test_a_batch_goes_in_whole_or_not_at_all(tmp_path: Path, writer: Writer) -> None:
    broken = ("INSERT INTO nowhere VALUES (1)", ())
    with pytest.raises(Exception, match="no such table"):
        await writer.apply([*fold(HISTORY[0]).statements, broken], 1, None)
    reading = Reading(tmp_path / "p.sqlite", 1)
    assert await reading.job("t1", "j1") is None
    reading.close()
    assert await writer.progress() is None


async def test_a_broken_or_foreign_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    async with Writer(path) as writer:
        assert await writer.progress() is None
        await apply(writer, HISTORY[0])
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()
    async with Writer(path) as writer:
        assert await writer.progress() is None


async def test_anchors_are_bounded(writer: Writer) -> None:
    for seq in range(1, KEPT_ANCHORS * 2):
        await writer.apply((), seq, Anchor(seq, seq, "s"))
    anchors = await writer.anchors()
    assert [anchor.seq for anchor in anchors] == list(range(KEPT_ANCHORS * 2 - 1, KEPT_ANCHORS - 1, -1))


async def test_every_list_is_served_by_an_index(tmp_path: Path, writer: Writer) -> None:
    from services.gateway.projection.reading import list_query

    cases = [
        Filters(after=Cursor(9, "j")),
        Filters(states=("queued",), since_ns=1, until_ns=9),
        Filters(name="n", after=Cursor(9, "j")),
        Filters(labels=(("a", "b"), ("c", "d")), states=("failed",), after=Cursor(9, "j")),
    ]
    with sqlite3.connect(tmp_path / "p.sqlite") as db:
        for filters in cases:
            sql, values = list_query("t1", filters)
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            assert "SCAN" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
    db.close()
