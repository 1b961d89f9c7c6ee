"""The leader's right to write: a key of bucket LEASE that lapses by itself.

A lapsed lease does not stop what was sent before, so the leader stops by its own monotonic clock before the lease can
lapse, records and orders are written by compare-and-set, and both carry the term.
"""

import asyncio

import orjson
import structlog

from shared.bus import Bus, Entry
from shared.clock import Clock
from shared.errors import OutcomeUnknown, OverspillError, Unavailable, WrongSequence
from shared.flow import LEASE

log = structlog.get_logger()

USED = 0.75
"""Of the lease's time: past it since the last renewal nothing is begun any more."""
RENEWALS = 4
"""In one lease's time."""


class LeaseLost(OverspillError):
    """The lease {name} lapsed or went to another instance; this one follows."""

    code = "lease_lost"


class Lease:
    def __init__(self, bus: Bus, clock: Clock, name: str, holder: str, seconds: float) -> None:
        self._keys = bus.bucket(LEASE)
        self._clock, self._name, self._seconds = clock, name, seconds
        self._value = orjson.dumps({"holder": holder})
        self._revision = 0
        self._until = 0.0

    def holds(self) -> bool:
        """Whether something may be begun now."""
        return self._clock.monotonic() < self._until

    async def acquire(self, above_term: int) -> int | None:
        """The term of our lease, greater than any before and than `above_term`; None while another holds it."""
        since = self._clock.monotonic()
        try:
            self._revision = await self._keys.create(self._name, self._value, self._seconds)
        except WrongSequence:
            return None
        except OutcomeUnknown:
            found = await self._ours()
            if found is None:
                return None
            # It may be that of an older try, arrived late: only a renewal says from when on it lasts.
            since = self._clock.monotonic()
            try:
                self._revision = await self._keys.update(self._name, self._value, found.revision, self._seconds)
            except WrongSequence:
                return None
        self._until = since + self._seconds * USED
        # Sequences of the bucket's stream only grow, so each lease's is greater than those before.
        return max(self._revision, above_term + 1)

    async def keep(self) -> None:
        """Renew until cancelled. Raises LeaseLost."""
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            if not self.holds():
                raise LeaseLost(name=self._name)
            await self._renew()

    async def _renew(self) -> None:
        since = self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._until - since)):
                self._revision = await self._keys.update(self._name, self._value, self._revision, self._seconds)
        except WrongSequence:
            self._until = 0.0
            raise LeaseLost(name=self._name) from None
        except (TimeoutError, Unavailable) as error:
            log.info("lease_not_renewed", why=str(error) or "no answer in time")
            await self._find_revision()
            return
        self._until = since + self._seconds * USED

    async def _find_revision(self) -> None:
        """A renewal that may have arrived changed the revision."""
        try:
            async with asyncio.timeout(max(0.0, self._until - self._clock.monotonic())):
                found = await self._ours()
        except (TimeoutError, Unavailable):
            return
        if found is None:
            self._until = 0.0
            raise LeaseLost(name=self._name)
        self._revision = found.revision

    async def _ours(self) -> Entry | None:
        found = await self._keys.get(self._name)
        return found if found is not None and found.value == self._value else None

    async def release(self) -> None:
        """Let the next one lead at once. Best effort: it lapses anyhow."""
        self._until = 0.0
        try:
            async with asyncio.timeout(1.0):
                # A renewal may have been under way: what stands is deleted, if it is ours.
                if (found := await self._ours()) is not None:
                    await self._keys.delete(self._name, found.revision)
        except (TimeoutError, WrongSequence, Unavailable) as error:
            log.info("lease_left_to_lapse", why=str(error))
