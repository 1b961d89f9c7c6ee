"""Counts what the doors refuse, and tells it on the bus: figures of security outlive this process."""

import asyncio
from collections import Counter

import structlog

from services.gateway.refusals import (
    BodyTooLarge,
    CrossSite,
    NoSuchTenant,
    NotPlacedHere,
    TooManyFollowers,
    TooManyQueued,
    TooManyRequests,
    WrongHost,
)
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import Forbidden, NotFound, OverspillError, Poison, Rejected, Unauthenticated, Unavailable
from shared.facts import RefusalsCounted
from shared.facts.figures import Refusals
from shared.flow import Figures
from shared.ids import random_id
from shared.metrics import REFUSED
from shared.telemetry import count
from shared.wire import encode

log = structlog.get_logger()

MAX_WAITING = 5000
"""Kinds and tenants counted apart while the bus is away; more are counted as nobody's."""

_KINDS: tuple[tuple[tuple[type[OverspillError], ...], str], ...] = (
    ((Unauthenticated,), "credential"),
    ((NoSuchTenant, NotPlacedHere), "foreign"),
    ((Forbidden,), "role"),
    ((TooManyRequests, TooManyQueued, TooManyFollowers), "rate"),
    ((WrongHost, CrossSite), "origin"),
    ((BodyTooLarge,), "size"),
    ((Poison,), "poison"),
)


def kind_of(error: OverspillError) -> str | None:
    """Why a door refused, in one of few words. None for what is no refusal: an outage, or what isn't there."""
    for errors, kind in _KINDS:
        if isinstance(error, errors):
            return kind
    if isinstance(error, NotFound | Unavailable) or not isinstance(error, Rejected):
        return None
    return "spec"


class Refusing:
    """Of one gateway."""

    def __init__(self, bus: Bus, clock: Clock, tell_every_seconds: float) -> None:
        self._bus, self._clock, self._tell_every_seconds = bus, clock, tell_every_seconds
        self._since_unix_ns = int(clock.now() * 1e9)
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._pending: tuple[RefusalsCounted, str] | None = None

    def refused(self, error: OverspillError, tenant: str | None = None) -> None:
        kind = kind_of(error)
        if kind is None:
            return
        count(REFUSED, attributes={"overspill.refusal.kind": kind})
        key = (kind, tenant)
        self._counts[key if key in self._counts or len(self._counts) < MAX_WAITING else (kind, None)] += 1

    async def tell(self) -> None:
        """Until cancelled; what is left is told then."""
        try:
            while True:
                await asyncio.sleep(self._tell_every_seconds)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """One fact, or none when nothing was refused. What the bus may not have taken is told again, as the same."""
        if self._pending is None and self._counts:
            self._pending = (self._drain(), random_id())
        if self._pending is None:
            return
        fact, identity = self._pending
        try:
            await self._bus.publish(Figures("gateway", fact.token()), encode(fact), message_id=identity)
        except Unavailable as error:
            log.info("refusals_not_told", why=str(error))
        else:
            self._pending = None

    def _drain(self) -> RefusalsCounted:
        counts, self._counts = self._counts, Counter()
        since, self._since_unix_ns = self._since_unix_ns, int(self._clock.now() * 1e9)
        return RefusalsCounted(
            since_unix_ns=since,
            until_unix_ns=self._since_unix_ns,
            refusals=[Refusals(kind=kind, tenant=tenant, count=number) for (kind, tenant), number in counts.items()],
        )
