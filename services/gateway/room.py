"""How much room the bus has, looked at now and then: what the doors go by before a disk is full."""

import asyncio
import shutil
from pathlib import Path

import structlog

from services.gateway.policy import why_no_room
from services.gateway.refusals import NoRoom
from shared.bus import Bus
from shared.errors import OverspillError
from shared.stream import Store

log = structlog.get_logger()

LOOK_SECONDS = 2.0


class Room:
    """`run` keeps it up to date."""

    def __init__(self, bus: Bus, store_dir: Path | None, reserve_bytes: int) -> None:
        """`store_dir`: where the bus stores, if that is on this machine."""
        self._bus, self._directory, self._reserve_bytes = bus, store_dir, reserve_bytes
        self.why: str | None = None
        """Why no new job is taken; None while there is room."""

    def check(self) -> None:
        """Raises NoRoom."""
        if self.why is not None:
            raise NoRoom(why=self.why)

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        why = why_no_room(await self._store(), self._free_bytes(), self._reserve_bytes)
        if (why is None) != (self.why is None):
            log.warning("submissions_refused" if why else "submissions_taken_again", why=why or self.why)
        self.why = why

    async def _store(self) -> Store | None:
        """None while it can't be asked: a bus that is away refuses by itself."""
        try:
            return await self._bus.store()
        except OverspillError:
            return None

    def _free_bytes(self) -> int | None:
        if self._directory is None:
            return None
        try:
            return shutil.disk_usage(self._directory).free
        except FileNotFoundError:
            return None
