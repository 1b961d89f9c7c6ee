"""What services counted, kept in memory from the stream FIGURES: a restart reads it again."""

from collections import Counter, deque
from collections.abc import Iterator

import structlog

from services.gateway.figures.model import WEEK
from shared.bus import Bus, Message
from shared.errors import Poison
from shared.facts import CapacityCounted, RefusalsCounted
from shared.facts.figures import PoolCapacity
from shared.flow import FIGURES, Figures
from shared.wire import decode

log = structlog.get_logger()

WEEK_NS = WEEK * 1_000_000_000
_FACTS: dict[str, type[RefusalsCounted] | type[CapacityCounted]] = {
    RefusalsCounted.token(): RefusalsCounted,
    CapacityCounted.token(): CapacityCounted,
}


class Ledger:
    """A week of facts; the stream's own order and time."""

    def __init__(self) -> None:
        self._refusals: deque[tuple[int, RefusalsCounted]] = deque()
        self._capacity: deque[tuple[int, CapacityCounted]] = deque()

    def apply(self, message: Message) -> None:
        """Raises Poison."""
        kind = _FACTS.get(Figures.parse(message.subject).kind)
        if kind is None:
            return  # of a newer version
        fact, at_ns = decode(kind, message.data), message.time_unix_ns
        if isinstance(fact, RefusalsCounted):
            self._refusals.append((at_ns, fact))
        else:
            self._capacity.append((at_ns, fact))
        for kept in (self._refusals, self._capacity):
            while kept and kept[0][0] < at_ns - WEEK_NS:
                kept.popleft()

    def refusals(self, since_ns: int, tenant: str | None) -> Counter[str]:
        """By kind; of this tenant alone when one is given."""
        found: Counter[str] = Counter()
        for at_ns, fact in reversed(self._refusals):
            if at_ns < since_ns:
                break
            for refused in fact.refusals:
                if tenant is None or refused.tenant == tenant:
                    found[refused.kind] += refused.count
        return found

    def capacity(self, since_ns: int) -> Iterator[tuple[int, str, PoolCapacity]]:
        """(when, cluster, what a pool had) of every stretch."""
        for at_ns, fact in reversed(self._capacity):
            if at_ns < since_ns:
                return
            for pool in fact.pools:
                yield at_ns, fact.cluster, pool


async def keep(ledger: Ledger, bus: Bus) -> None:
    """Never returns. Rides out an absent bus."""
    async for message in bus.tail(FIGURES, from_seq=1):
        try:
            ledger.apply(message)
        except Poison as error:
            log.warning("figure_unreadable", subject=message.subject, seq=message.seq, error=str(error))
