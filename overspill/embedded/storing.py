"""Room for bus and object store: how much of this machine's disk they may take, and what happens once it is full.

Neither comes back by itself. nats-server 2.15.1 stops storing when one write fails for lack of space: JetStream is off
until a restart. SeaweedFS 4.48 goes on failing for some folders once its index could not be written. What either had
acknowledged is whole, so they are started again once there is room.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from shared.adapters.identity import Identity
from shared.adapters.nats_api import api
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.errors import OverspillError, Unavailable
from shared.stream import STORE_BYTES

log = structlog.get_logger()

LEAST_FREE_BYTES = 64 * 2**20
"""A server that starts with less would soon be where it was."""
LOOK_SECONDS = 5.0
DISK_LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0
RESTARTED_SECONDS = 15.0


class DiskFull(OverspillError):
    """The disk of {directory} has {free} MiB left, too few to begin with: free {wanted} MiB or more."""

    code = "disk_full"


def default_bytes(directory: Path) -> int:
    """Half of what is free and its own, at most STORE_BYTES. Raises DiskFull."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        raise DiskFull(directory=directory, free=free // 2**20, wanted=LEAST_FREE_BYTES // 2**20)
    own = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return min(STORE_BYTES, (free + own) // 2)


async def keep_storing(url: str, identity: Identity, directory: Path, restart: Callable[[], Awaitable[None]]) -> None:
    """Runs until cancelled: calls `restart` when the server at `url` is there but stores nothing, and has room to."""
    credential = identity.credential(PROVISIONER)
    while True:
        with contextlib.suppress(Unavailable):
            async with NatsBus.connect(url, credential, name="up") as bus:
                await _look_on(bus, directory, restart)
        await asyncio.sleep(LOOK_SECONDS)


async def _look_on(bus: NatsBus, directory: Path, restart: Callable[[], Awaitable[None]]) -> None:
    while True:
        if await _stopped_storing(bus):
            free = shutil.disk_usage(directory).free
            log.error("bus_stores_nothing", free_bytes=free, needed_bytes=LEAST_FREE_BYTES)
            if free >= LEAST_FREE_BYTES:
                await restart()
                await asyncio.sleep(RESTARTED_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)


async def keep_taking(directory: Path, restart: Callable[[], Awaitable[None]]) -> None:
    """Runs until cancelled: calls `restart` whenever the disk of the object store was full and has room again.

    The store is not asked whether it needs that: its index is several databases, chosen by an object's folder, and
    one may take nothing any more while the others answer every probe.
    """
    was_full = False
    while True:
        free = shutil.disk_usage(directory).free
        if free < LEAST_FREE_BYTES:
            was_full = True
        elif was_full:
            log.warning("object_store_restarts", why="its disk was full and has room again", free_bytes=free)
            await restart()
            was_full = False
        await asyncio.sleep(DISK_LOOK_SECONDS)


async def _stopped_storing(bus: NatsBus) -> bool:
    """A server that is away, or was cut off while it was asked, is no concern of ours."""
    for _ in range(2):
        try:
            await api(bus, "INFO", timeout_seconds=ANSWER_SECONDS)
        except Unavailable:
            if not bus.connected:
                return False
        else:
            return False
    return bus.connected
