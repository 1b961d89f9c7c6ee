"""Who else collects logs: each has a key with a time to live, renews it, and looks at the others'."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.bus import Bus
from shared.errors import OverspillError, WrongSequence
from shared.flow import LEASE

log = structlog.get_logger()

_PREFIX = "log-collector.member."


class Membership:
    """`members` are those seen alive last, oneself included."""

    def __init__(self, bus: Bus, instance: str, ttl_seconds: float) -> None:
        self._lease = bus.bucket(LEASE)
        self._instance = instance
        self._ttl_seconds = ttl_seconds
        self._revision: int | None = None
        self.members: frozenset[str] = frozenset()

    async def hold(self, on_change: Callable[[], Awaitable[None]], beat: Callable[[], None]) -> None:
        """Never ends; beats each time it has looked. While the bus is away nothing changes: who reads twice harms
        nobody.
        """
        while True:
            try:
                await self._renew()
                members = await self._alive()
            except OverspillError as error:
                log.warning("membership_not_renewed", error=str(error))
            else:
                if members != self.members:
                    self.members = members
                    log.info("log_collectors", members=sorted(members))
                    await on_change()
            beat()
            # A lapsed key makes no event: who is gone shows only by looking.
            await asyncio.sleep(self._ttl_seconds / 3)

    async def _renew(self) -> None:
        key = _PREFIX + self._instance
        if self._revision is None:
            # Perhaps our own from before a crash: it is ours whatever its revision is.
            entry = await self._lease.get(key)
            self._revision = entry.revision if entry is not None else None
        try:
            if self._revision is None:
                self._revision = await self._lease.create(key, b"", self._ttl_seconds)
            else:
                self._revision = await self._lease.update(key, b"", self._revision, self._ttl_seconds)
        except OverspillError as error:
            self._revision = None
            if not isinstance(error, WrongSequence):
                raise

    async def _alive(self) -> frozenset[str]:
        keys = await self._lease.all()
        others = frozenset(key.removeprefix(_PREFIX) for key in keys if key.startswith(_PREFIX))
        return others | {self._instance}

    async def leave(self) -> None:
        """The others need not wait until our key lapses."""
        try:
            await self._lease.delete(_PREFIX + self._instance)
        except OverspillError as error:
            log.warning("membership_lapses_by_itself", error=str(error))
