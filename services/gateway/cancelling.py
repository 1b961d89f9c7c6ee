"""Cancelling: one fact, however often it is asked. The scheduler acts on it."""

import structlog

from services.gateway.standing import newest_record
from shared.bus import Bus
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import NotFound, OutcomeUnknown, WrongSequence
from shared.facts import CancelRequested, JobRecord
from shared.flow import EVT, Evt
from shared.job_spans import run_context
from shared.principal import Principal
from shared.telemetry import continue_trace, current_traceparent, link
from shared.wire import encode

log = structlog.get_logger()


class Cancelling:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock

    async def request(self, principal: Principal, job: str) -> JobRecord:
        """The record as it stands; an ended job is left alone. Raises NotFound, Unavailable."""
        record = await newest_record(self._bus, principal.tenant, job)
        if record is None:
            raise NotFound(what="job", name=job)
        if record.ended:
            return record
        fact = CancelRequested(
            tenant=principal.tenant, job=job, by=principal.subject[:200], at_unix_ns=int(self._clock.now() * 1e9)
        )
        subject = Evt(principal.tenant, job, 0, CancelRequested.token())
        try:
            run = run_context(record.traceparent, job)
            link(run)
            # The request is a trace of its own; what it brings about is the job's.
            with continue_trace(run or current_traceparent()):
                await self._bus.publish(subject, encode(fact), expect_seq=0)
            crash_point("gateway.after-cancel-before-answer")
            log.info("cancel_requested", tenant=principal.tenant, job=job, by=principal.subject)
        except WrongSequence:
            log.debug("cancel_was_requested_before", tenant=principal.tenant, job=job)
        except OutcomeUnknown:
            if await self._bus.last(EVT, subject) is None:
                raise
        return record
