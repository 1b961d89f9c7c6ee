"""Admission performed: policy decides, then source check, spec, record, in this order; each write is read back when in
doubt.
"""

from collections.abc import Awaitable, Callable

import structlog

from services.gateway.model import Admitted, Outcome, Submission
from services.gateway.policy import admit, check_queue
from services.gateway.refusals import IdempotencyConflict, SourceMissing
from services.gateway.room import Room
from services.gateway.standing import standing
from services.gateway.tenants import Directory
from shared.bus import Bus, Message
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import OutcomeUnknown, Unavailable, WrongSequence
from shared.facts import JobRecord
from shared.flow import JOBS, Job, Spec, Svc
from shared.ids import random_id
from shared.metrics import ACCEPTED, TENANT
from shared.requests import SourceCheckAsked, SourceCheckTold
from shared.stream import Stream
from shared.subject import Subject
from shared.telemetry import count
from shared.tenancy import TenantRecord
from shared.wire import decode, encode

log = structlog.get_logger()

TRIES = 3
CountQueued = Callable[[str, int], Awaitable[int]]


class QueueDepth:
    """How many jobs of a tenant wait: counted at most twice a second, and since then as admitted here."""

    MAX_AGE_SECONDS = 0.5

    def __init__(self, count: CountQueued, clock: Clock) -> None:
        self._count, self._clock = count, clock
        self._known: dict[str, tuple[float, int]] = {}

    async def of(self, record: TenantRecord) -> int:
        now = self._clock.monotonic()
        known = self._known.get(record.tenant)
        if known is None or now - known[0] > self.MAX_AGE_SECONDS:
            counted = await self._count(record.tenant, record.limits.max_queued_jobs + 1)
            known = self._known[record.tenant] = (now, counted)
        return known[1]

    def admitted(self, tenant: str) -> None:
        known = self._known.get(tenant)
        if known is not None:
            self._known[tenant] = (known[0], known[1] + 1)


class Admission:
    """Raises Rejected when the submission is refused for good, Unavailable when it may be tried again."""

    def __init__(self, bus: Bus, directory: Directory, depth: QueueDepth, room: Room, clock: Clock) -> None:
        self._bus, self._directory, self._depth, self._room, self._clock = bus, directory, depth, room, clock

    async def submit(self, submission: Submission) -> Outcome:
        tenant = self._directory.tenant(submission.principal.tenant)
        admitted = admit(submission, tenant, int(self._clock.now() * 1e9), random_id())
        if submission.named_by is not None:
            before = await standing(self._bus, tenant.tenant, submission.job)
            if before is not None:
                return _same(before, admitted, submission)
        self._room.check()
        check_queue(tenant, await self._depth.of(tenant))
        await self._check_tree(tenant.tenant, admitted.tree)
        await self._store_spec(admitted, submission)
        crash_point("gateway.after-spec-before-record")
        outcome = await self._create(admitted, submission)
        crash_point("gateway.after-record-before-answer")
        if outcome.created:
            self._depth.admitted(tenant.tenant)
            count(ACCEPTED, attributes={TENANT: tenant.tenant, "overspill.door": submission.via})
            log.info(
                "job_admitted",
                tenant=tenant.tenant,
                job=submission.job,
                via=submission.via,
                by=submission.principal.subject,
            )
        return outcome

    async def _check_tree(self, tenant: str, tree: str | None) -> None:
        if tree is None:
            return
        asked = SourceCheckAsked(tenant=tenant, source=tree)
        reply = await self._bus.request(Svc("cache", "source-check"), encode(asked))
        if not decode(SourceCheckTold, reply.data).exists:
            raise SourceMissing(tree=tree)

    async def _store_spec(self, admitted: Admitted, submission: Submission) -> None:
        subject = Spec(admitted.record.tenant, admitted.record.job)
        stands = await self._put_new(JOBS, subject, admitted.spec_bytes)
        if stands.data != admitted.spec_bytes:
            raise _conflict(submission)

    async def _create(self, admitted: Admitted, submission: Submission) -> Outcome:
        subject = Job(admitted.record.tenant, admitted.record.job)
        stands = await self._put_new(JOBS, subject, admitted.record_bytes)
        if stands.data == admitted.record_bytes:
            return Outcome(admitted.record, created=True)
        record = decode(JobRecord, stands.data)
        if record.write_id == admitted.record.write_id:
            return Outcome(record, created=True)
        return _same(record, admitted, submission)

    async def _put_new(self, stream: Stream, subject: Subject, data: bytes) -> Message:
        """What stands at `subject` afterwards: `data`, or what somebody else had put there. Raises Unavailable."""
        doubt: Unavailable | None = None
        for _ in range(TRIES):
            try:
                stored = await self._bus.publish(subject, data, expect_seq=0)
                return Message(str(subject), data, seq=stored.seq)
            except WrongSequence:
                doubt = None
            except OutcomeUnknown as error:
                doubt = error
            found = await self._bus.last(stream, subject)
            if found is not None:
                return found
        raise doubt or Unavailable(what=f"storing {subject}", why="it was purged while it was written")


def _same(record: JobRecord, admitted: Admitted, submission: Submission) -> Outcome:
    if record.content_hash != admitted.record.content_hash:
        raise _conflict(submission)
    return Outcome(record, created=False)


def _conflict(submission: Submission) -> IdempotencyConflict:
    return IdempotencyConflict(what=submission.named_by or "job id", job=submission.job)
