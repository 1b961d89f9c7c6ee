"""The bus' client is closed, whatever became of the tasks it had."""

import asyncio
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
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            yield writer
        finally:
            writer.close()


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
