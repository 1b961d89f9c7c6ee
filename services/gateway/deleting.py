"""Deleting: a tombstone is written, everything else follows from it (docs/adr/0010)."""

import structlog

from services.gateway.cancelling import Cancelling
from services.gateway.projection.feed import Feed
from services.gateway.projection.forgetting import WHOLE_TENANT
from services.gateway.refusals import JobIsLive
from services.gateway.standing import newest_record
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import NotFound, OutcomeUnknown, WrongSequence
from shared.facts import JobForgotten
from shared.facts.forgetting import stands_until
from shared.flow import DONE, TENANTS, Gone
from shared.principal import Principal
from shared.tenancy import TenantRecord
from shared.wire import decode, encode

log = structlog.get_logger()

TRIES = 5


class Deleting:
    def __init__(self, bus: Bus, cancelling: Cancelling, feed: Feed, clock: Clock) -> None:
        self._bus, self._cancelling, self._feed, self._clock = bus, cancelling, feed, clock

    async def job(self, principal: Principal, job: str, *, cancel: bool) -> bool:
        """Whether it had ended. Nobody sees it any more when this returns. Raises NotFound, JobIsLive, Unavailable."""
        record = await newest_record(self._bus, principal.tenant, job)
        if record is None:
            raise NotFound(what="job", name=job)
        if not record.ended and not cancel:
            raise JobIsLive(job=job, state=record.state.value)
        if not record.ended:
            await self._cancelling.request(principal, job)
        now = self._clock.now()
        stone = JobForgotten(
            tenant=principal.tenant,
            job=job,
            why="deleted",
            by=principal.subject[:200],
            at_unix_ns=int(now * 1e9),
            until_unix=stands_until(now, record.ended_unix_ns, record.timeout_seconds),
        )
        await self._put(stone)
        await self._feed.forget((principal.tenant, job))
        log.info("job_deleted", tenant=principal.tenant, job=job, by=principal.subject)
        return record.ended

    async def _put(self, stone: JobForgotten) -> None:
        subject = Gone(stone.tenant, stone.job)
        try:
            await self._bus.publish(subject, encode(stone), expect_seq=0)
        except WrongSequence:
            log.debug("job_was_deleted_before", tenant=stone.tenant, job=stone.job)
        except OutcomeUnknown:
            if await self._bus.last(DONE, subject) is None:
                raise

    async def tenant(self, principal: Principal, tenant: str) -> None:
        """Nobody comes in for it any more when this returns; what is left of it goes in time. Raises NotFound."""
        bucket = self._bus.bucket(TENANTS)
        for last in range(TRIES):
            entry = await bucket.get(tenant)
            if entry is None:
                raise NotFound(what="tenant", name=tenant)
            record = decode(TenantRecord, entry.value)
            if record.closing_unix is not None:
                break
            closed = record.model_copy(update={"api_keys": [], "closing_unix": int(self._clock.now())})
            try:
                await bucket.update(tenant, closed.model_dump_json(exclude_none=True).encode(), entry.revision)
            except WrongSequence:
                if last == TRIES - 1:
                    raise
                continue
            log.info("tenant_deleted", tenant=tenant, by=principal.subject)
            break
        await self._feed.forget((tenant, WHOLE_TENANT))
