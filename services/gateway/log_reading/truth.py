"""A step's log as the log-collector knows it, page by page."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from shared.bus import Bus
from shared.errors import NotFound, Poison, Rejected
from shared.flow import Svc
from shared.requests import ANSWER, LogAsked, LogTold
from shared.wire import decode, encode

PAGE_BYTES = 524_288
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class StepLog:
    """Which log is meant. `over`: its attempt is; the answer is then all that there is, or Unavailable."""

    tenant: str
    job: str
    epoch: int
    step: int
    over: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    told: LogTold
    data: bytes

    @property
    def end(self) -> int:
        """Where the page ends."""
        return self.told.offset + len(self.data)

    @property
    def is_last(self) -> bool:
        """Nothing more is known now."""
        return self.end >= self.told.end


NOTHING = Page(LogTold(offset=0, end=0, complete=False), b"")


async def read_page(
    bus: Bus, log: StepLog, offset: int, limit_bytes: int = PAGE_BYTES, since_unix_ms: int | None = None
) -> Page:
    """An empty page when nobody knows of such a log yet. Raises Unavailable."""
    asked = LogAsked(
        tenant=log.tenant,
        job=log.job,
        epoch=log.epoch,
        step=log.step,
        offset=offset,
        limit_bytes=min(limit_bytes, PAGE_BYTES),
        since_unix_ms=since_unix_ms,
        over=log.over,
    )
    try:
        reply = await bus.request(Svc("log-collector", "read"), encode(asked), timeout_seconds=TIMEOUT_SECONDS)
    except Rejected as error:
        if error.status == NotFound.status:
            return NOTHING
        raise
    answer = reply.headers.get(ANSWER)
    if answer is None:
        raise Poison(why=f"the log-collector's reply has no header {ANSWER}")
    return Page(decode(LogTold, answer.encode()), reply.data)


async def pages(
    bus: Bus, log: StepLog, offset: int = 0, end: int | None = None, since_unix_ms: int | None = None
) -> AsyncGenerator[Page, None]:
    """From `offset` to `end`, or to what is known at the moment of the last page."""
    while end is None or offset < end:
        limit = PAGE_BYTES if end is None else end - offset
        page = await read_page(bus, log, offset, limit, since_unix_ms)
        since_unix_ms = None
        yield page
        if page.is_last or page.end <= offset:
            return
        offset = page.end
