"""Keeps the state in step with the streams, in the leader and in every standby alike: a takeover finds it warm.

Records are read from JOBS itself and not from their copies in EVT: no order between the two is needed, and the copy
may be late after the bus was restarted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import structlog

from services.scheduler.model import (
    ClusterKnown,
    JobGone,
    Key,
    MachineHeard,
    RecordSeen,
    Resumed,
    TenantKnown,
)
from services.scheduler.state import AttemptFact, Fact, State
from shared.burying import bury
from shared.bus import Bus, Entry, Message
from shared.clock import Clock
from shared.errors import Poison, Unavailable
from shared.facts import AttemptAccepted, AttemptEnded, CancelRequested, JobRecord, MachineSeen
from shared.flow import CLUSTERS, EVT, JOBS, METRICS, TENANTS, Evt, Job, MachineMetrics, RecordCopy
from shared.lifecycle import JobState
from shared.telemetry import system_error
from shared.tenancy import ClusterRecord, TenantRecord
from shared.wire import decode

log = structlog.get_logger()

_KINDS: dict[str, type[AttemptFact]] = {
    AttemptAccepted.token(): AttemptAccepted,
    AttemptEnded.token(): AttemptEnded,
    CancelRequested.token(): CancelRequested,
}
_FACTS = (
    Evt.filter(kind=AttemptAccepted.token()),
    Evt.filter(kind=AttemptEnded.token()),
    Evt.filter(epoch=0, kind=CancelRequested.token()),
)
_OLDEST_LOOKED_AT = 8
"""Live jobs whose first appearance in EVT is looked up: gateways' clocks may disagree about which is the oldest."""
_BREATH = 256
"""Messages after which others get their turn."""


class Follower:
    """Loads the state, then follows. `changed` is called after every fact."""

    def __init__(self, bus: Bus, clock: Clock, state: State, changed: Callable[[], None]) -> None:
        self._bus, self._clock, self._state, self._changed = bus, clock, state, changed
        self._jobs_seq = 0
        self._evt_seq = 0
        self._metrics_seq = 0
        self.cluster_revisions: dict[str, int] = {}
        """By cluster: which revision of its record the state has."""

    def hear(self, fact: Fact) -> None:
        self._state.apply(fact, self._clock.now())
        self._changed()

    def resumed(self) -> None:
        """The connection is back."""
        self.hear(Resumed())

    async def load(self) -> None:
        """Everything as it is now. Raises Unavailable."""
        await self.load_clusters()
        for key, entry in (await self._bus.bucket(TENANTS).all()).items():
            self._on_tenant(key, entry)
        self._metrics_seq = await self._bus.end_seq(METRICS)
        await self._breathing(
            self._each(await self._bus.last_each(METRICS, MachineMetrics.filter())),
            lambda message: self._on_machine(message, min(self._clock.now(), message.time_unix_ns / 1e9)),
        )
        evt_end = await self._bus.end_seq(EVT)
        self._jobs_seq = await self._bus.end_seq(JOBS)
        await self._breathing(self._each(await self._bus.last_each(JOBS, Job.filter())), self._on_record)
        await self._hear_cancels()
        self._evt_seq = min(await self._oldest_live_in_evt(), evt_end + 1) - 1
        self.hear(Resumed())
        await self.catch_up()
        log.info("state_loaded", jobs=len(self._state.jobs), machines=len(self._state.machines))

    async def load_clusters(self) -> None:
        """Raises Unavailable."""
        for key, entry in (await self._bus.bucket(CLUSTERS).all()).items():
            self._on_cluster(key, entry)

    async def _oldest_live_in_evt(self) -> int:
        live = [job.record for job in self._state.jobs.values() if not job.record.ended]
        oldest = sorted(live, key=lambda record: record.created_unix_ns)[:_OLDEST_LOOKED_AT]
        first = await self._bus.end_seq(EVT) + 1
        for record in oldest:
            # Its copy may have come after facts about it: after the bus was restarted it is late.
            whose = (Evt.filter(tenant=record.tenant, job=record.job), str(RecordCopy(record.tenant, record.job)))
            async for message in self._bus.read(EVT, *whose, from_seq=1):
                first = min(first, message.seq)
                break
        return first

    async def _hear_cancels(self) -> None:
        """Of live jobs, wherever in EVT they are: nobody would ask for them a second time."""
        cancels = await self._bus.last_each(EVT, Evt.filter(epoch=0, kind=CancelRequested.token()))
        live = [message for message in cancels if self._is_live(Evt.parse(message.subject))]
        await self._breathing(self._each(live), self._hear_fact)

    def _is_live(self, subject: Evt) -> bool:
        job = self._state.jobs.get((subject.tenant, subject.job))
        return job is not None and not job.record.ended

    async def catch_up(self) -> None:
        """Read on to the streams' ends of this instant; what the tails bring again changes nothing."""
        await self._breathing(self._bus.read(JOBS, Job.filter(), from_seq=self._jobs_seq + 1), self._on_record)
        await self._breathing(self._bus.read(EVT, *_FACTS, from_seq=self._evt_seq + 1), self._on_fact)

    async def follow(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for following in (
                self._breathing(self._bus.tail(JOBS, Job.filter(), from_seq=self._jobs_seq + 1), self._on_record),
                self._breathing(self._bus.tail(EVT, *_FACTS, from_seq=self._evt_seq + 1), self._on_fact),
                self._breathing(
                    self._bus.tail(METRICS, MachineMetrics.filter(), from_seq=self._metrics_seq + 1),
                    lambda message: self._on_machine(message, self._clock.now()),
                ),
                self._watch_tenants(),
                self._watch_clusters(),
            ):
                tasks.create_task(_endless(following))

    async def audit(self) -> None:
        """Compare memory with JOBS: what was purged goes, what was missed comes. Raises Unavailable."""
        end = await self._bus.end_seq(JOBS)
        stored: set[Key] = set()
        for message in await self._bus.last_each(JOBS, Job.filter()):
            subject = Job.parse(message.subject)
            stored.add((subject.tenant, subject.job))
            self._on_record(message)
        for key, job in tuple(self._state.jobs.items()):
            if key not in stored and job.seq <= end:
                self.hear(JobGone(key, end))

    async def _each(self, messages: list[Message]) -> AsyncIterator[Message]:
        for message in messages:
            yield message

    async def _breathing(self, messages: AsyncIterator[Message], take: Callable[[Message], None]) -> None:
        count = 0
        async for message in messages:
            try:
                take(message)
            except Poison as poison:
                await self._bury(message, str(poison))
            count += 1
            if count % _BREATH == 0:
                await asyncio.sleep(0)

    def _on_record(self, message: Message) -> None:
        self._jobs_seq = max(self._jobs_seq, message.seq)
        subject = Job.parse(message.subject)
        known = self._state.jobs.get((subject.tenant, subject.job))
        if known is not None and known.seq >= message.seq:
            return
        record = decode(JobRecord, message.data)
        if (record.tenant, record.job) != (subject.tenant, subject.job):
            raise Poison(why=f"a record of {record.tenant}/{record.job} at {message.subject}")
        if record.state is JobState.PLACED and (record.placement is None or record.epoch < 1):
            raise Poison(why="it is placed nowhere")
        self.hear(RecordSeen(record, message.seq))

    def _on_fact(self, message: Message) -> None:
        self._evt_seq = max(self._evt_seq, message.seq)
        self._hear_fact(message)

    def _hear_fact(self, message: Message) -> None:
        subject = Evt.parse(message.subject)
        fact = decode(_KINDS[subject.kind], message.data)
        epoch = 0 if isinstance(fact, CancelRequested) else fact.epoch
        if (fact.tenant, fact.job, epoch) != (subject.tenant, subject.job, subject.epoch):
            raise Poison(why=f"a fact about {fact.tenant}/{fact.job} epoch {epoch} came as {message.subject}")
        self.hear(fact)

    def _on_machine(self, message: Message, at: float) -> None:
        self._metrics_seq = max(self._metrics_seq, message.seq)
        subject, seen = MachineMetrics.parse(message.subject), decode(MachineSeen, message.data)
        if (seen.cluster, seen.machine) != (subject.cluster, subject.machine):
            raise Poison(why=f"a picture of {seen.cluster}/{seen.machine} at {message.subject}")
        self.hear(MachineHeard(seen, at))

    async def _watch_tenants(self) -> None:
        async for entry in self._bus.bucket(TENANTS).watch():
            self._on_tenant(entry.key, entry)

    async def _watch_clusters(self) -> None:
        async for entry in self._bus.bucket(CLUSTERS).watch():
            self._on_cluster(entry.key, entry)

    def _on_tenant(self, key: str, entry: Entry) -> None:
        try:
            self.hear(TenantKnown(key, None if entry.deleted else decode(TenantRecord, entry.value)))
        except Poison as poison:
            log.error("tenant_record_ignored", tenant=key, why=str(poison))  # noqa: TRY400 - the message says it

    def _on_cluster(self, key: str, entry: Entry) -> None:
        try:
            self.hear(ClusterKnown(key, None if entry.deleted else decode(ClusterRecord, entry.value)))
        except Poison as poison:
            log.error("cluster_record_ignored", cluster=key, why=str(poison))  # noqa: TRY400 - the message says it
        self.cluster_revisions[key] = entry.revision

    async def _bury(self, message: Message, why: str) -> None:
        system_error("poison")
        log.warning("buried", subject=message.subject, seq=message.seq, why=why)
        try:
            await bury(self._bus, "scheduler", message, why)
        except Unavailable as error:
            log.warning("not_buried", subject=message.subject, why=str(error))


async def _endless(following: Coroutine[Any, Any, None]) -> None:
    await following
    raise RuntimeError("a tail came to its end")
