"""Brings facts, chunks and questions to the bus until they have arrived. An outage only delays."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from runner.protocol.attempt import Attempt
from shared.bus import CE_TYPE, Bus, Stored
from shared.cancelling import cancels, heed_cancel
from shared.errors import OutcomeUnknown, Rejected, Unavailable, WrongSequence
from shared.facts.attempt import AttemptFact
from shared.facts.log import LogChunk
from shared.facts.order import Order
from shared.flow import Ask, Evt, LogTo
from shared.requests import DesiredTold, DurableAsked, DurableTold, UrlsAsked, UrlsTold
from shared.wire import decode, encode

log = structlog.get_logger()

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 3.0
CHUNKS_IN_FLIGHT = 24
CHUNK_SECONDS = 60.0
"""How long a chunk's confirmation may take: a bus with much to do must not be given everything twice. What was under
way when the connection broke is sent again as soon as it is back.
"""


class Reconnects:
    """`next` is set when the connection comes back the next time."""

    def __init__(self, bus: Bus) -> None:
        self.next = asyncio.Event()
        self._asked: set[asyncio.Future[Stored]] = set()
        self._broken: set[asyncio.Future[Stored]] = set()
        bus.on_reconnect(self._on_reconnect)

    @contextmanager
    def ending(self, asked: "asyncio.Future[Stored]") -> Iterator[None]:
        """An answer that was awaited when the connection broke never comes: `asked` ends as Unavailable."""
        already = cancels()
        self._asked.add(asked)
        try:
            yield
        except asyncio.CancelledError:
            if asked not in self._broken:
                asked.cancel()
                raise
            heed_cancel(already)
            raise OutcomeUnknown(what="publishing", why="the connection broke") from None
        finally:
            self._asked.discard(asked)
            self._broken.discard(asked)

    def _on_reconnect(self) -> None:
        for asked in self._asked:
            if asked.cancel():
                self._broken.add(asked)
        self.next.set()
        self.next = asyncio.Event()


class Patience:
    """Growing pauses, cut short when the bus comes back. `reset` after a success."""

    def __init__(self, reconnects: "Reconnects") -> None:
        self._reconnects = reconnects
        self.reset()

    def reset(self) -> None:
        self._delay = FIRST_DELAY_SECONDS

    async def pause(self) -> None:
        try:
            async with asyncio.timeout(self._delay * random.uniform(0.75, 1.25)):  # noqa: S311 - only spreads retries
                await self._reconnects.next.wait()
        except TimeoutError:
            self._delay = min(self._delay * 2, LONGEST_DELAY_SECONDS)


class Courier:
    """What one attempt may say and ask."""

    def __init__(self, bus: Bus, attempt: Attempt) -> None:
        self._bus = bus
        self._attempt = attempt
        self._chunk_slots = asyncio.Semaphore(CHUNKS_IN_FLIGHT)
        self._reconnects = Reconnects(bus)

    def patience(self) -> Patience:
        return Patience(self._reconnects)

    async def tell(self, fact: AttemptFact, about: str = "") -> None:
        """Returns when the fact is stored. `about` tells facts of one kind apart (step number, artifact name)."""
        grant = self._attempt.grant
        identity = f"{fact.token()}-{about}" if about else fact.token()
        patience = self.patience()
        while True:
            try:
                await self._bus.publish(
                    Evt(grant.tenant, grant.job, grant.epoch, fact.token()),
                    encode(fact),
                    headers=self._headers(fact, identity),
                    message_id=f"{self._attempt.nonce}-{identity}",
                )
            except Unavailable as error:
                log.info("fact_waits", kind=fact.kind, why=str(error))
                await patience.pause()
            except Rejected as error:
                # Saying it again changes nothing; what is missing then is a detail, never the verdict.
                log.warning("fact_rejected", kind=fact.kind, why=str(error))
                return
            else:
                return

    async def tell_end(self, fact: AttemptFact) -> bool:
        """The one fact that only the first may tell. False when another one stands."""
        grant = self._attempt.grant
        patience = self.patience()
        while True:
            try:
                await self._bus.publish(
                    Evt(grant.tenant, grant.job, grant.epoch, fact.token()),
                    encode(fact),
                    headers=self._headers(fact, fact.token()),
                    expect_seq=0,
                )
            except WrongSequence:
                return False
            except Unavailable as error:
                log.info("fact_waits", kind=fact.kind, why=str(error))
                await patience.pause()
            else:
                return True

    def _headers(self, fact: AttemptFact, identity: str) -> dict[str, str]:
        grant = self._attempt.grant
        return {
            "ce-specversion": "1.0",
            CE_TYPE: fact.event_type(),
            "ce-source": f"/overspill/jobs/{grant.job}/attempts/{grant.epoch}",
            "ce-id": f"{grant.job}-{grant.epoch}-{identity}",
        }

    async def send(self, step: int, chunk: LogChunk, again: int = 0) -> None:
        """One try. `again`: how often all of this was lost after it had arrived. Raises Unavailable."""
        grant = self._attempt.grant
        about = f"{step}-{chunk.offset}-{len(chunk.data)}-{int(chunk.last)}" + (f"-{again}" if again else "")
        async with self._chunk_slots:
            publishing = asyncio.ensure_future(
                self._bus.publish(
                    LogTo(grant.tenant, grant.job, grant.epoch, step),
                    chunk.data,
                    headers=chunk.headers(),
                    message_id=f"{self._attempt.nonce}-log-{about}",
                    timeout_seconds=CHUNK_SECONDS,
                )
            )
            with self._reconnects.ending(publishing):
                await publishing

    async def ask_durable(self, asked: DurableAsked) -> DurableTold:
        """Raises Unavailable, OverspillError."""
        return decode(DurableTold, await self._ask("durable", encode(asked)))

    async def ask_urls(self, asked: UrlsAsked) -> UrlsTold:
        """Raises Unavailable, OverspillError."""
        return decode(UrlsTold, await self._ask("urls", encode(asked)))

    async def ask_desired(self) -> Order | None:
        """What should be of the job, as the hub has it now. Raises Unavailable, OverspillError."""
        return decode(DesiredTold, await self._ask("desired", b"")).order

    async def _ask(self, op: str, data: bytes) -> bytes:
        grant = self._attempt.grant
        return (await self._bus.request(Ask(grant.tenant, grant.job, grant.epoch, op), data)).data
