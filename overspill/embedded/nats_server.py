"""The embedded bus: nats-server with the identity of its data directory, listening on the loopback alone."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from overspill.embedded.binaries import nats_server
from shared.adapters.identity import Identity
from shared.adapters.nats_config import SYNC_INTERVAL_SECONDS, server_config
from shared.errors import OverspillError

START_SECONDS = 30.0
"""A data directory with a million messages takes about three."""
_LOOK_SECONDS = 0.005


class BusNotStarted(OverspillError):
    """nats-server did not start ({why}); its log says more: {log}"""

    code = "bus_not_started"


def prepare(
    directory: Path,
    identity: Identity,
    *,
    port: int = -1,
    sync_interval_seconds: float | None = SYNC_INTERVAL_SECONDS,
) -> list[str]:
    """Write the configuration; returns the command that starts the server. Raises NoBinary."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for stale in directory.glob("*.ports"):
        stale.unlink()
    config = directory / "nats.conf"
    config.touch(mode=0o600)
    config.write_text(server_config(identity, directory, port=port, sync_interval_seconds=sync_interval_seconds))
    return [str(nats_server()), "--config", str(config)]


def told_url(directory: Path) -> str | None:
    """The address, once the server takes connections."""
    for path in directory.glob("*.ports"):
        try:
            return str(orjson.loads(path.read_bytes())["nats"][0])
        except (orjson.JSONDecodeError, FileNotFoundError):
            return None  # it is being written
    return None


async def until_started(directory: Path, has_ended: Callable[[], bool], log: Path) -> str:
    """The address. Raises BusNotStarted."""
    deadline = time.monotonic() + START_SECONDS
    while (url := told_url(directory)) is None:
        if has_ended():
            raise BusNotStarted(why="it ended at once", log=log)
        if time.monotonic() > deadline:
            raise BusNotStarted(why=f"no address after {START_SECONDS:.0f} s", log=log)
        # The server tells of its address by a file and nothing else; it does so 15 ms after its start.
        await asyncio.sleep(_LOOK_SECONDS)
    return url
