"""The bus' client is closed, whatever became of the tasks it had."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.adapters.nats_bus import _close


class Client:
    """Of nats-py: the part of `close` that waits for the connection's end."""

    is_connected = False

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.waits = asyncio.Event()

    async def close(self) -> None:
        self.waits.set()
        await self._writer.wait_closed()


@asynccontextmanager
async def connection() -> AsyncIterator[asyncio.StreamWriter]:
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await asyncio.open_connection(sock=ours)
        yield writer
        writer.close()
        await asyncio.sleep(0)  # the transport closes its socket in a callback


async def test_another_waiter_that_was_cancelled_cancels_nobody_who_closes() -> None:
    async with connection() as writer:
        other = asyncio.create_task(writer.wait_closed())
        await asyncio.sleep(0)
        other.cancel()
        await asyncio.wait([other])
        with pytest.raises(asyncio.CancelledError):
            await writer.wait_closed()
        await _close(Client(writer))


async def test_who_is_cancelled_while_closing_ends() -> None:
    async with connection() as writer:
        client = Client(writer)
        closing = asyncio.create_task(_close(client))
        await client.waits.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
