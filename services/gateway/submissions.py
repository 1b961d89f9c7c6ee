"""The bus door: CloudEvents on `submit.<tenant>`. Here a failure becomes ack, retry or burial."""

import asyncio
from collections.abc import Callable

import orjson
import structlog

from services.gateway.admission import Admission
from services.gateway.cancelling import Cancelling
from services.gateway.model import Submission
from services.gateway.pacing import Pacing
from services.gateway.refusals import NoRoom, NoSuchTenant
from services.gateway.tenants import Directory
from shared.burying import bury
from shared.bus import CE_TYPE, TRACEPARENT, Bus, Delivery, Message
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import NotFound, OverspillError, Poison, Rejected, Unavailable
from shared.facts import CancelRequested, JobSubmitted, SubmissionRefused
from shared.flow import SUBMIT, Evt, Submit
from shared.ids import JobId, job_id_from_event
from shared.principal import Principal, Role
from shared.spec_reading import SpecRefused
from shared.telemetry import current_traceparent, span, system_error, valid_traceparent
from shared.wire import Model, decode, encode

log = structlog.get_logger()

CE_ID, CE_SOURCE = "ce-id", "ce-source"
CE_LIMIT_CHARACTERS = 500
RETRY_SECONDS = 2.0
ACK_SECONDS = 10.0
"""Longer than an admission takes: what was in hand when a gateway or the bus was killed waits this long."""
MAX_PENDING = 65_536
"""In hand or sent away for later: room for several tenants' whole backlogs, so that theirs hold up nobody else's."""
UNKNOWN_JOB_DELIVERIES = 3
"""A cancel may overtake its job's submission by this many tries."""


class CancelAsked(Model):
    """What a service sends to cancel; the tenant is the subject's."""

    job: JobId


class Submissions:
    def __init__(
        self,
        bus: Bus,
        admission: Admission,
        cancelling: Cancelling,
        directory: Directory,
        clock: Clock,
        at_once: int,
        refused: Callable[[OverspillError, str], None],
    ) -> None:
        self._bus, self._admission, self._cancelling, self._clock = bus, admission, cancelling, clock
        self._directory, self._pacing, self._refused = directory, Pacing(), refused
        self._slots, self._at_once = asyncio.Semaphore(at_once), at_once

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for delivery in self._bus.work(
                SUBMIT, "gateway", ack_wait_seconds=ACK_SECONDS, max_pending=MAX_PENDING, batch=self._at_once
            ):
                await self._slots.acquire()
                tasks.create_task(self.handle(delivery)).add_done_callback(lambda _: self._slots.release())

    async def handle(self, delivery: Delivery) -> None:
        message = delivery.message
        wait = self._seconds_to_its_turn(message)
        if wait > 0:
            await delivery.retry(wait)
            return
        parent = valid_traceparent(message.headers.get(TRACEPARENT))
        with span(f"process {Submit.pattern}", "CONSUMER", _attributes(message), parent=parent) as notes:
            try:
                await self._perform(message, delivery.times_delivered)
            except Unavailable as error:
                notes.failed(error)
                log.warning("submission_delayed", subject=message.subject, seq=message.seq, error=str(error))
                await delivery.retry(error.retry_after_seconds if isinstance(error, NoRoom) else RETRY_SECONDS)
            except OverspillError as error:
                notes.failed(error)
                self._refused(error, message.subject.rpartition(".")[2])
                await self._bury(delivery, str(error))
            except Exception as error:
                notes.failed(error)
                # Ours, but no message may stop the door: it is kept, with why, for whoever mends it.
                system_error("submission_failed")
                log.exception("submission_failed", subject=message.subject, seq=message.seq)
                await self._bury(delivery, f"{type(error).__name__}: {error}")
            else:
                crash_point("gateway.after-submission-before-ack")
                await delivery.ack()

    def _seconds_to_its_turn(self, message: Message) -> float:
        """Cancels are never held up: they make room."""
        tenant = self._directory.tenants.get(Submit.parse(message.subject).tenant)
        if tenant is None or _found(message, CE_TYPE) != JobSubmitted.event_type():
            return 0.0
        rate, burst = tenant.limits.submissions_per_second, tenant.limits.submission_burst
        return self._pacing.wait(tenant.tenant, message.seq, rate, burst, self._clock.monotonic())

    async def _perform(self, message: Message, times_delivered: int) -> None:
        tenant = Submit.parse(message.subject).tenant
        event_type = _header(message, CE_TYPE)
        principal = Principal(tenant=tenant, subject=f"bus:{_header(message, CE_SOURCE)}"[:200], role=Role.SUBMITTER)
        if event_type == JobSubmitted.event_type():
            await self._submit(message, principal)
        elif event_type == CancelRequested.event_type():
            await self._cancel(message, principal, times_delivered)
        else:
            raise Poison(why=f"{CE_TYPE} {event_type!r} is none of the bus door's")

    async def _submit(self, message: Message, principal: Principal) -> None:
        job = job_id_from_event(principal.tenant, _header(message, CE_SOURCE), _header(message, CE_ID))
        try:
            body = orjson.loads(message.data)
        except orjson.JSONDecodeError as error:
            await self._refuse(principal.tenant, job, SpecRefused(why=f"the event's data is no JSON: {error}"))
            raise Poison(why=f"the data is no JSON: {error}") from error
        spec = body.get("spec") if isinstance(body, dict) else None
        submission = Submission(
            principal=principal,
            raw=spec,
            size_bytes=len(message.data),
            job=job,
            via="bus",
            named_by="ce-source and ce-id",
            traceparent=current_traceparent(),
        )
        try:
            await self._admission.submit(submission)
        except NoSuchTenant as error:
            # Nobody hears its feed, and nothing is to be left of who was deleted.
            raise Poison(why=str(error)) from error
        except Rejected as refusal:
            await self._refuse(principal.tenant, job, refusal)

    async def _cancel(self, message: Message, principal: Principal, times_delivered: int) -> None:
        job = decode(CancelAsked, message.data).job
        try:
            await self._cancelling.request(principal, job)
        except NotFound as error:
            if times_delivered < UNKNOWN_JOB_DELIVERIES:
                raise Unavailable(what=f"job {job}", why="it may still be on its way") from error
            await self._refuse(principal.tenant, job, error)

    async def _refuse(self, tenant: str, job: str, refusal: Rejected) -> None:
        """Whoever published it reads this on `feed.<tenant>.<job>.0.submission-refused`."""
        self._refused(refusal, tenant)
        log.info("submission_refused", tenant=tenant, job=job, code=refusal.code, detail=str(refusal)[:300])
        fact = SubmissionRefused(
            tenant=tenant,
            job=job,
            code=refusal.code,
            detail=str(refusal)[:2000],
            at_unix_ns=int(self._clock.now() * 1e9),
        )
        # Every refused event is told, also the second one of a name: its publisher waits for an answer.
        await self._bus.publish(Evt(tenant, job, 0, SubmissionRefused.token()), encode(fact))

    async def _bury(self, delivery: Delivery, why: str) -> None:
        message = delivery.message
        system_error("poison")
        log.warning("submission_buried", subject=message.subject, seq=message.seq, why=why)
        try:
            await bury(self._bus, "gateway", message, why)
        except Unavailable:
            await delivery.retry(RETRY_SECONDS)
        else:
            await delivery.drop()


def _found(message: Message, name: str) -> str:
    """Headers of CloudEvents are case-insensitive by the HTTP binding many libraries follow."""
    return message.headers.get(name) or next((v for k, v in message.headers.items() if k.lower() == name), "")


def _header(message: Message, name: str) -> str:
    value = _found(message, name)
    if not value or len(value) > CE_LIMIT_CHARACTERS:
        raise Poison(why=f"header {name} is {'missing' if not value else 'too long'}; CloudEvents binary mode needs it")
    return value


def _attributes(message: Message) -> dict[str, str | int]:
    return {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "gateway",
        "messaging.destination.name": message.subject,
        "messaging.destination.template": Submit.pattern,
        "messaging.message.body.size": len(message.data),
    }
