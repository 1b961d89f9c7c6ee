"""Any sequence of facts, verdicts, purges, deletions and expiries, on real streams: the projection that lived through
it and the one made from nothing have the same rows.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.gateway.projection.feed import DETAILS_SECONDS, Feed
from services.gateway.projection.followers import Followers
from services.gateway.projection.writing import Writer
from services.gateway.tenants import Directory
from shared.adapters.nats_bus import NatsBus
from shared.adapters.provision import provision
from shared.errors import OverspillError, WrongSequence
from shared.facts import (
    ArtifactsKept,
    ArtifactStored,
    AttemptAccepted,
    AttemptEnded,
    JobForgotten,
    JobRecord,
    StepEnded,
    StepStarted,
    StepSummarised,
)
from shared.flow import DONE, EVT, JOBS, TENANTS, Done, Evt, Gone, Job, Kept
from shared.ids import random_id
from shared.lifecycle import Reason
from shared.needs import Needs
from shared.tenancy import TenantRecord
from shared.wire import encode
from tests.contract.conftest import Server
from tests.integration.doors.hub import ShiftedClock
from tests.integration.doors.test_retention import rows

NS = 10**9
DAY = 86_400
JOBS_OF_A_HISTORY = 4
EXAMPLES = 25
LIMIT_SECONDS = 30

JOB = st.integers(0, JOBS_OF_A_HISTORY - 1)
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), JOB, st.sampled_from([0, 3, 6, 8, 20])),
    st.tuples(st.sampled_from(["place", "end", "done", "leave", "fact", "fact", "late", "garbage", "refuse"]), JOB),
    st.tuples(st.just("pass_by"), JOB),
    st.tuples(st.sampled_from(["delete", "forget", "lift", "age"]), JOB),
    st.tuples(st.sampled_from(["close", "look", "restart"])),
    st.tuples(st.just("later"), st.sampled_from([1, 8])),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@dataclass
class Projection:
    """A feed on a file, run until it has seen everything and looked at what is past its time."""

    bus: NatsBus
    directory: Path
    clock: ShiftedClock

    async def catch_up(self) -> None:
        tenants = Directory(self.bus)
        async with Writer(self.directory / "projection.sqlite") as writer, asyncio.timeout(LIMIT_SECONDS):
            feed = Feed(self.bus, writer, Followers(9, 9, 9), tenants, self.clock)
            tasks = [asyncio.create_task(tenants.tenants.run()), asyncio.create_task(tenants.clusters.run())]
            await tenants.tenants.loaded.wait()
            await tenants.clusters.loaded.wait()
            tasks.append(asyncio.create_task(feed.run()))
            await feed.caught_up.wait()
            newest = await self.bus.last(DONE, "*.*.*")
            while (known := await writer.progress()) is None or (newest is not None and known.done_seq < newest.seq):
                if newest is not None and newest.subject.startswith("done."):
                    break
                await asyncio.sleep(0.01)
            await feed.forget()
            await feed.drop_old()
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@dataclass
class History:
    """What gateway, scheduler, runner and time do to a few jobs, written as they write it."""

    bus: NatsBus
    clock: ShiftedClock
    tenant: str = field(default_factory=lambda: f"t-{random_id()[:10]}")
    records: dict[int, JobRecord] = field(default_factory=dict)
    told: int = 0

    def job(self, number: int) -> str:
        return f"job-{number}"

    async def create(self, number: int, days_ago: int) -> None:
        if await self.bus.last(DONE, Gone(self.tenant, self.job(number))) or number in self.records:
            return
        record = JobRecord(
            tenant=self.tenant,
            job=self.job(number),
            name="n",
            state="queued",
            created_unix_ns=int((self.clock.now() - days_ago * DAY) * NS),
            content_hash="h",
            needs=Needs(cpu_millis=1, memory_bytes=1, disk_bytes=1),
            timeout_seconds=1,
            step_count=1,
            submitted_by="x",
            write_id=random_id(),
            labels={"k": str(number)},
        )
        await self.write(number, record)

    async def write(self, number: int, record: JobRecord) -> None:
        self.records[number] = record
        await self.bus.publish(Job(self.tenant, record.job), encode(record))
        # EVT has its copy before anything else happens: the bus makes it within a millisecond.
        copy = f"evt.{self.tenant}.{record.job}.record"
        async with asyncio.timeout(LIMIT_SECONDS):
            while (found := await self.bus.last(EVT, copy)) is None or found.data != encode(record):
                await asyncio.sleep(0.001)

    async def place(self, number: int) -> None:
        record = self.records.get(number)
        if record is not None and not record.ended:
            placed = record.model_dump() | {"state": "placed", "epoch": 1, "write_id": random_id()}
            await self.write(number, JobRecord.model_validate(placed))

    async def end(self, number: int) -> None:
        record = self.records.get(number)
        if record is not None and not record.ended:
            now = int(self.clock.now() * NS)
            ended = record.model_dump() | {"state": "failed", "ended_unix_ns": now, "write_id": random_id()}
            await self.write(number, JobRecord.model_validate(ended))

    async def done(self, number: int) -> None:
        record = self.records.get(number)
        if record is None or not record.ended:
            return
        artifact = ArtifactStored(**self.head(number), name="a", key="k", size_bytes=1, sha256="s", files=1)
        kept = ArtifactsKept(tenant=self.tenant, job=record.job, artifacts=[artifact])
        for subject, fact in ((Kept(self.tenant, record.job), kept), (Done(self.tenant, record.job), record)):
            with contextlib.suppress(WrongSequence):
                await self.bus.publish(subject, encode(fact), expect_seq=0)

    async def leave(self, number: int) -> None:
        """JOBS' hour is over; DONE has it."""
        if await self.bus.last(DONE, Done(self.tenant, self.job(number))):
            await self.bus.purge(JOBS, str(Job(self.tenant, self.job(number))))

    async def pass_by(self, number: int) -> None:
        """A whole life, seen or not."""
        for chapter in (self.place, self.fact, self.end, self.done, self.leave):
            await chapter(number)

    def head(self, number: int) -> dict[str, Any]:
        return {"tenant": self.tenant, "job": self.job(number), "epoch": 1, "at_unix_ns": time.time_ns()}

    async def fact(self, number: int) -> None:
        if number in self.records:
            await self.late(number)

    async def late(self, number: int) -> None:
        """Also of a job nobody knows, or that is gone."""
        head, self.told = self.head(number), self.told + 1
        facts = (
            AttemptAccepted(**head, cluster="c1", machine="m1"),
            StepStarted(**head, step=1, name="s"),
            StepEnded(**head, step=1, name="s", state="exited", verdict="ok", exit_code=0),
            StepSummarised(**head, step=1, name="s", markdown=f"# {self.told}"),
            ArtifactStored(**head, name="a", key="k", size_bytes=self.told, sha256="s", files=1),
            AttemptEnded(**head, outcome="failed", reason=Reason.STEP_FAILED),
        )
        fact = facts[self.told % len(facts)]
        await self.bus.publish(Evt(self.tenant, self.job(number), 1, fact.token()), encode(fact))

    async def garbage(self, number: int) -> None:
        await self.bus.publish(Evt(self.tenant, self.job(number), 1, "step-ended"), b"{")

    async def refuse(self, number: int) -> None:
        await self.bus.publish(Evt(self.tenant, f"no-{number}", 0, "of-a-later-version"), b"{}")

    async def delete(self, number: int) -> None:
        if number not in self.records:
            return
        stone = JobForgotten(
            tenant=self.tenant, job=self.job(number), why="deleted", by="x", at_unix_ns=1, until_unix=1
        )
        with contextlib.suppress(WrongSequence):
            await self.bus.publish(Gone(self.tenant, self.job(number)), encode(stone), expect_seq=0)

    async def forget(self, number: int) -> None:
        """What the leader does about a tombstone."""
        job = self.job(number)
        if await self.bus.last(DONE, Gone(self.tenant, job)):
            await self.bus.purge(JOBS, str(Job(self.tenant, job)))
            await self.bus.purge(DONE, str(Kept(self.tenant, job)))
            await self.bus.purge(DONE, str(Done(self.tenant, job)))
            await self.bus.purge(EVT, f"evt.{self.tenant}.{job}.>")
            self.records.pop(number, None)

    async def lift(self, number: int) -> None:
        if await self.bus.last(DONE, Gone(self.tenant, self.job(number))):
            await self.forget(number)
            await self.bus.purge(DONE, str(Gone(self.tenant, self.job(number))))

    async def age(self, number: int) -> None:
        """EVT keeps nothing for longer than its age."""
        record = self.records.get(number)
        created = record.created_unix_ns / NS if record else time.time()
        if created < self.clock.now() - EVT.keeps_seconds:
            await self.bus.purge(EVT, f"evt.{self.tenant}.{self.job(number)}.>")

    async def close(self) -> None:
        record = TenantRecord(tenant=self.tenant, closing_unix=1)
        await self.bus.bucket(TENANTS).put(self.tenant, encode(record))

    async def later(self, days: int) -> None:
        self.clock.ahead_seconds += days * DAY


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking on real streams takes minutes; the example says it all
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(OPERATIONS, min_size=5, max_size=30))
def test_any_history_makes_the_same_rows_again(server: Server, operations: list[tuple[Any, ...]]) -> None:
    asyncio.run(_lives_and_is_made_anew(server, operations))


async def _lives_and_is_made_anew(server: Server, operations: list[tuple[Any, ...]]) -> None:
    assert EVT.keeps_seconds > DETAILS_SECONDS
    with TemporaryDirectory() as home:
        async with NatsBus.connect(server.url, name="history") as bus:
            await provision(bus)
            history = History(bus, ShiftedClock())
            await bus.bucket(TENANTS).put(history.tenant, encode(TenantRecord(tenant=history.tenant)))
            old = Projection(bus, Path(home) / "old", history.clock)
            new = Projection(bus, Path(home) / "new", history.clock)
            await old.catch_up()
            for name, *about in operations:
                if name in ("look", "restart"):
                    await old.catch_up()
                else:
                    await getattr(history, name)(*about)
            await old.catch_up()
            await new.catch_up()
            assert rows(old.directory) == rows(new.directory)
            for stream, subject in ((JOBS, "job.*.*"), (DONE, "*.*.*"), (EVT, "evt.>")):
                await bus.purge(stream, subject.replace("*", history.tenant, 1) if stream is JOBS else subject)
            with contextlib.suppress(OverspillError):
                await bus.bucket(TENANTS).delete(history.tenant)
