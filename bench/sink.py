"""A collector that takes every span and keeps none: `python -m bench.sink`. Prints its address."""

import asyncio
from typing import cast

import orjson
import uvloop


class Sink(asyncio.Protocol):
    """HTTP/1.1, kept alive; only as much of it as an exporter uses."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
            )


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(orjson.dumps({"url": f"http://{host}:{port}"}).decode(), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
