"""A line between a machine and the bus that can be cut as networks are: no byte passes, and nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Line:
    """Forwards to `port`. While it is cut its sockets stay open, new ones too, and what was sent waits in them."""

    port: int
    url: str = ""
    _whole: asyncio.Event = field(default_factory=asyncio.Event)
    _taken: set["asyncio.Task[None]"] = field(default_factory=set)

    def cut(self) -> None:
        self._whole.clear()

    def heal(self) -> None:
        """What waited arrives, late."""
        self._whole.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._taken.add(task)
        try:
            await self._whole.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, back))
                    pumps.create_task(self._pump(there, writer))
            finally:
                await _close(back)
        except* (ConnectionError, asyncio.CancelledError):
            pass  # one of the two ends is gone, or the test is over
        finally:
            await _close(writer)
            self._taken.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await self._whole.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError

    async def close(self) -> None:
        taken = list(self._taken)
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Line]:
    line = Line(int(url.rsplit(":", 1)[1]))
    line.heal()
    server = await asyncio.start_server(line._take, "127.0.0.1", 0)
    line.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        await line.close()
