"""What only the leader does about the past: history that has expired, jobs and tenants that were deleted.

A tombstone is written first and everything else follows from it, so a crash anywhere is only doing it again; and again
when it is due, since until then an attempt's credential may still have written something. Two leaders at once purge
twice.
"""

import asyncio
from collections.abc import Callable

import structlog

from services.scheduler.model import NS, ForgetAsked, Key, RecordSeen
from services.scheduler.performing import headers
from services.scheduler.state import Fact, State
from shared.bus import Bus, Entry, Message
from shared.clock import Clock
from shared.errors import OverspillError, Poison, Unavailable, WrongSequence
from shared.facts import JobForgotten, JobRecord
from shared.facts.forgetting import CREDENTIAL_MARGIN_SECONDS, STANDS_SECONDS
from shared.flow import (
    DLQ,
    DONE,
    EVT,
    JOBS,
    LEASE,
    ORDERS,
    SUBMIT,
    TENANTS,
    Buried,
    Done,
    Gone,
    Job,
    Kept,
    OrderTo,
    Spec,
    Submit,
    Svc,
)
from shared.requests import ForgetAsked as Forget
from shared.tenancy import TenantRecord
from shared.wire import decode, encode

log = structlog.get_logger()

PROGRESS = "scheduler.forgotten"
"""Key in LEASE: tombstones up to this sequence of DONE were acted upon."""
RETRY_SECONDS = 1.0
OBJECTS_SECONDS = 60.0
"""A job may have thousands of parts."""


class Forgetter:
    """Runs while this instance leads."""

    def __init__(
        self, bus: Bus, clock: Clock, state: State, hear: Callable[[Fact], None], every_seconds: float, at_once: int
    ) -> None:
        self._bus, self._clock, self._state, self._hear = bus, clock, state, hear
        self._every_seconds = every_seconds
        self._slots = asyncio.Semaphore(at_once)
        self._closing: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_tombstones())
            tasks.create_task(self._follow_tenants())
            tasks.create_task(self._look_now_and_then())

    # ── jobs

    async def _follow_tombstones(self) -> None:
        """Each tombstone as it comes, several at once; progress is told up to the oldest that is not done."""
        entry = await self._bus.bucket(LEASE).get(PROGRESS)
        position = int(entry.value) if entry is not None and entry.value.isdigit() else 0
        begun: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            async for message in self._bus.tail(DONE, Gone.filter(), from_seq=position + 1):
                await self._slots.acquire()
                task = tasks.create_task(self._until_forgotten(message))
                task.add_done_callback(lambda _: self._slots.release())
                begun[message.seq] = task
                while begun and begun[oldest := min(begun)].done():
                    position = oldest
                    del begun[oldest]
                await self._tell_progress(position)

    async def _tell_progress(self, position: int) -> None:
        try:
            await self._bus.bucket(LEASE).put(PROGRESS, str(position).encode())
        except Unavailable as error:
            log.info("progress_not_told", why=str(error))

    async def _until_forgotten(self, message: Message) -> None:
        about = Gone.parse(message.subject)
        while True:
            if await self._tried((about.tenant, about.job)):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _tried(self, key: Key) -> bool:
        """Whether it is forgotten. What lives ends in order first; then its order and final record go too."""
        try:
            if await self._lives(*key):
                self._hear(ForgetAsked(key))
                return False
            await self._forget(key)
        except OverspillError as error:
            log.warning("forgetting_put_off", tenant=key[0], job=key[1], why=str(error))
            return False
        log.info("job_forgotten", tenant=key[0], job=key[1])
        return True

    async def _lives(self, tenant: str, job: str = "*") -> bool:
        """Whether such jobs are still the decisions' business. A record may be faster than our tail of JOBS."""
        for message in await self._bus.last_each(JOBS, Job.filter(tenant=tenant, job=job)):
            try:
                self._hear(RecordSeen(decode(JobRecord, message.data), message.seq))
            except Poison as poison:
                log.error("record_ignored", subject=message.subject, why=str(poison))  # noqa: TRY400 - it says it all
        if job != "*":
            return (tenant, job) in self._state.jobs
        return any(key[0] == tenant for key in self._state.jobs)

    async def _forget(self, key: Key) -> None:
        """Everything but the tombstone. Idempotent. Raises Unavailable."""
        tenant, job = key
        await self._bus.purge(ORDERS, OrderTo.filter(tenant=tenant, job=job))
        await self._bus.purge(JOBS, str(Spec(*key)))
        await self._bus.purge(JOBS, str(Job(*key)))
        await self._bus.purge(DONE, str(Kept(*key)))
        await self._bus.purge(DONE, str(Done(*key)))
        await self._bus.purge(EVT, f"evt.{tenant}.{job}.>")
        await self._forget_objects(Forget(tenant=tenant, job=job))

    async def _forget_objects(self, asked: Forget) -> None:
        for service in ("log-collector", "cache"):
            await self._bus.request(Svc(service, "forget"), encode(asked), timeout_seconds=OBJECTS_SECONDS)

    # ── what has expired, and tombstones that are due

    async def _look_now_and_then(self) -> None:
        while True:
            try:
                for record in await self._tenants():
                    await self._expire(record)
                await self._lift_tombstones()
                for record in await self._tenants():
                    if record.closing_unix is not None:
                        await self._close(record)
            except OverspillError as error:
                log.warning("history_not_swept", why=str(error))
            await asyncio.sleep(self._every_seconds)

    async def _tenants(self) -> list[TenantRecord]:
        entries = await self._bus.bucket(TENANTS).all()
        return [record for entry in entries.values() if (record := _read(entry)) is not None]

    async def _expire(self, record: TenantRecord) -> None:
        """Tombstones for what is past the tenant's history. DONE is in the order of the jobs' ends."""
        now = self._clock.now()
        horizon_ns = int((now - record.history_seconds) * NS)
        async for message in self._bus.read(DONE, Done.filter(tenant=record.tenant), from_seq=1):
            if message.time_unix_ns > horizon_ns:
                return
            job = Done.parse(message.subject).job
            stone = JobForgotten(
                tenant=record.tenant,
                job=job,
                why="expired",
                by="scheduler",
                at_unix_ns=int(now * NS),
                until_unix=int(now) + STANDS_SECONDS,
            )
            try:
                await self._bus.publish(
                    Gone(record.tenant, job), encode(stone), headers=headers(stone, job), expect_seq=0
                )
            except WrongSequence:
                continue

    async def _lift_tombstones(self) -> None:
        """Once more for those that are due, then they go too."""
        now = self._clock.now()
        async for message in self._bus.read(DONE, Gone.filter(), from_seq=1):
            about = Gone.parse(message.subject)
            key = (about.tenant, about.job)
            try:
                until = decode(JobForgotten, message.data).until_unix
            except Poison:
                until = message.time_unix_ns // NS + STANDS_SECONDS
            if until <= now and await self._tried(key):
                await self._bus.purge(DONE, message.subject)

    # ── tenants

    async def _follow_tenants(self) -> None:
        """A tenant that is being deleted: as soon as nothing of it lives, everything goes."""
        async with asyncio.TaskGroup() as tasks:
            async for entry in self._bus.bucket(TENANTS).watch():
                record = None if entry.deleted else _read(entry)
                if record is not None and record.closing_unix is not None and record.tenant not in self._closing:
                    self._closing.add(record.tenant)
                    tasks.create_task(self._until_swept(record.tenant))

    async def _until_swept(self, tenant: str) -> None:
        while True:
            try:
                if await self._sweep(tenant):
                    break
            except OverspillError as error:
                log.warning("tenant_not_swept", tenant=tenant, why=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        self._closing.discard(tenant)
        log.info("tenant_swept", tenant=tenant)

    async def _close(self, record: TenantRecord) -> None:
        """The record goes last, once no credential of its attempts can be valid any more."""
        writable = record.limits.max_timeout_seconds + CREDENTIAL_MARGIN_SECONDS
        if self._clock.now() < (record.closing_unix or 0) + max(writable, STANDS_SECONDS):
            return
        if await self._sweep(record.tenant):
            await self._bus.bucket(TENANTS).delete(record.tenant)
            log.info("tenant_removed", tenant=record.tenant)

    async def _sweep(self, tenant: str) -> bool:
        """False while jobs of it are still ending. Raises Unavailable."""
        if await self._lives(tenant):
            return False
        done = self._bus.read(DONE, Done.filter(tenant=tenant), from_seq=1)
        for job in {Done.parse(message.subject).job async for message in done}:
            await self._forget((tenant, job))
        await self._bus.purge(SUBMIT, str(Submit(tenant)))
        await self._bus.purge(ORDERS, OrderTo.filter(tenant=tenant))
        for subject in (Spec.filter(tenant=tenant), Job.filter(tenant=tenant)):
            await self._bus.purge(JOBS, subject)
        for subject in (Kept.filter(tenant=tenant), Done.filter(tenant=tenant), Gone.filter(tenant=tenant)):
            await self._bus.purge(DONE, subject)
        await self._bus.purge(EVT, f"evt.{tenant}.>")
        await self._bus.purge(DLQ, Buried.filter(sender=tenant))
        await self._forget_objects(Forget(tenant=tenant))
        return True


def _read(entry: Entry) -> TenantRecord | None:
    try:
        record = decode(TenantRecord, entry.value)
    except Poison as poison:
        log.error("tenant_record_ignored", tenant=entry.key, why=str(poison))  # noqa: TRY400 - the message says it
        return None
    return record if record.tenant == entry.key else None
