"""An edge's words to the hub about attempts: claims, questions for grants, ends. For whatever serves a target."""

import asyncio
import time

import structlog

from runner.agent.model import Key
from shared.bus import CE_TYPE, Bus
from shared.errors import OverspillError, Rejected, Unavailable, WrongSequence
from shared.facts.attempt import AttemptAccepted, AttemptEnded, Outcome
from shared.facts.order import Order
from shared.flow import Edge, Evt
from shared.lifecycle import Reason
from shared.requests import Grant, GrantAsked, WallsAsked, WallsStanding, WallsTold
from shared.wire import decode, encode

log = structlog.get_logger()

RETRY_SECONDS = 0.5


class ClaimedBefore(OverspillError):
    """Attempt {epoch} of job {job} was accepted before, and nothing of it is here."""

    code = "claimed_before"


class HubDoor:
    """The hub, for one target of one cluster. Every call outlasts an absent bus."""

    def __init__(self, bus: Bus, cluster: str, target: str) -> None:
        self._bus, self._cluster, self._target = bus, cluster, target

    async def accept(self, order: Order, claim: str, *, unsure: bool, inherited: bool) -> None:
        """`unsure`: it may have been told before, without an answer that we know of. `inherited`: the order stood
        before this process began, so that one before it may have answered it. Raises ClaimedBefore.
        """
        fact = AttemptAccepted(
            tenant=order.tenant,
            job=order.job,
            epoch=order.epoch,
            at_unix_ns=time.time_ns(),
            cluster=order.cluster,
            machine=self._target,
            claim=claim,
        )
        while True:
            try:
                await self._publish_first(fact)
            except WrongSequence:
                if not unsure:
                    raise ClaimedBefore(job=order.job, epoch=order.epoch) from None
                await self._confirm(order, claim)
                return
            except Unavailable as error:
                log.info("claim_waits", job=order.job, why=str(error))
                unsure = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if inherited:
                    await self._confirm(order, claim)
                return

    async def _confirm(self, order: Order, claim: str) -> None:
        """The hub knows whose acceptance stands, and whether the end was told. Raises ClaimedBefore."""
        try:
            await self.grant(order, claim)
        except Rejected as error:
            raise ClaimedBefore(job=order.job, epoch=order.epoch) from error

    async def grant(self, order: Order, claim: str | None = None) -> Grant:
        """Raises Rejected."""
        asked = GrantAsked(tenant=order.tenant, job=order.job, epoch=order.epoch, claim=claim)
        subject = Edge(self._cluster, self._target, "grant")
        while True:
            try:
                return decode(Grant, (await self._bus.request(subject, encode(asked))).data)
            except Unavailable as error:
                log.info("grant_waits", job=order.job, why=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def walls(self, standing: list[WallsStanding]) -> WallsTold:
        """What is to become of these tenants' walls. Once, without patience. Raises Unavailable, Rejected."""
        subject = Edge(self._cluster, self._target, "walls")
        return decode(WallsTold, (await self._bus.request(subject, encode(WallsAsked(standing=standing)))).data)

    async def tell_ended(
        self, key: Key, outcome: Outcome, reason: Reason, message: str, step: int | None = None
    ) -> None:
        """The attempt's end from here, unless somebody told it before."""
        fact = AttemptEnded(
            tenant=key.tenant,
            job=key.job,
            epoch=key.epoch,
            at_unix_ns=time.time_ns(),
            outcome=outcome,
            reason=reason,
            message=message[:500],
            step=step,
        )
        while True:
            try:
                await self._publish_first(fact)
            except WrongSequence:
                return
            except Unavailable as error:
                log.info("end_waits", job=key.job, why=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                log.info(
                    "attempt_ended_here",
                    job=key.job,
                    epoch=key.epoch,
                    outcome=outcome,
                    reason=reason.value,
                    why=message,
                )
                return

    async def _publish_first(self, fact: AttemptAccepted | AttemptEnded) -> None:
        headers = {
            "ce-specversion": "1.0",
            CE_TYPE: fact.event_type(),
            "ce-source": f"/overspill/clusters/{self._cluster}/machines/{self._target}",
            "ce-id": f"{fact.job}-{fact.epoch}-{fact.token()}",
        }
        await self._bus.publish(
            Evt(fact.tenant, fact.job, fact.epoch, fact.token()), encode(fact), headers=headers, expect_seq=0
        )
