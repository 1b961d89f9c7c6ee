"""A NATS client with nothing to spare, for what stands around the thing measured: submitters and simulated edges.

One TCP connection, published and answered in whole buffers; a request's answer resolves a future. It knows no
reconnecting: a figure whose bus goes away is void.
"""

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any, Self, cast
from urllib.parse import urlsplit

import orjson

from shared.adapters.nkeys import KeyPair
from shared.credential import Credential

Handler = Callable[[str, bytes], None]


class BusRefused(Exception):
    """The server said -ERR, or closed the connection."""


class RawNats(asyncio.Protocol):
    """Use `connect`."""

    def __init__(self, credential: Credential, *, inbox: bool) -> None:
        self._credential = credential
        self._prefix = f"{credential.inbox_prefix}.r."
        self._handlers: dict[bytes, Handler] = {}
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._number = 0
        self._buffer = b""
        self._out: list[bytes] = []
        self._inbox = inbox
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def connect(cls, url: str, credential: Credential, *, inbox: bool = True) -> Self:
        """`inbox`: it will make requests. Raises BusRefused, OSError."""
        address = urlsplit(url)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(credential, inbox=inbox), address.hostname, address.port)
        await client.ready
        return client

    # What it says

    def subscribe(self, subject: str, handler: Handler) -> None:
        sid = str(len(self._handlers) + 10).encode()
        self._handlers[sid] = handler
        self._write(b"SUB %s %s\r\n" % (subject.encode(), sid))

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> None:
        head = f"{subject} {reply} " if reply else f"{subject} "
        if headers is None:
            self._write(b"PUB %s%d\r\n%s\r\n" % (head.encode(), len(data), data))
            return
        lines = "NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
        raw = lines.encode()
        self._write(b"HPUB %s%d %d\r\n%s%s\r\n" % (head.encode(), len(raw), len(raw) + len(data), raw, data))

    def ask(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> "asyncio.Future[bytes]":
        """The answer's payload."""
        self._number += 1
        token = str(self._number)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[token] = future
        self.publish(subject, data, headers, self._prefix + token)
        return future

    async def store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """A publish that the stream acknowledges; its answer. Raises BusRefused."""
        answer: dict[str, Any] = orjson.loads(await self.ask(subject, data, headers))
        if "error" in answer:
            raise BusRefused(f"{subject}: {answer['error']}")
        return answer

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    # What it hears

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        lost = BusRefused(f"the connection is gone: {exc}")
        for future in (self.ready, *self._waiting.values()):
            if not future.done():
                future.set_exception(lost)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            line = buffer[at:end]
            if line[:4] in (b"MSG ", b"HMSG"):
                words = line.split()
                size = int(words[-1])
                if len(buffer) < end + 4 + size:
                    break
                body = buffer[end + 2 : end + 2 + size]
                if line[:1] == b"H":
                    body = body[int(words[-2]) :]
                self._on_message(words[1].decode(), words[2], body)
                at = end + 4 + size
            else:
                self._on_line(line)
                at = end + 2
        self._buffer = buffer[at:]

    def _on_message(self, subject: str, sid: bytes, body: bytes) -> None:
        if sid == b"1":
            future = self._waiting.pop(subject.rpartition(".")[2], None)
            if future is not None and not future.done():
                future.set_result(body)
            return
        self._handlers[sid](subject, body)

    def _on_line(self, line: bytes) -> None:
        if line == b"PING":
            self._write(b"PONG\r\n")
        elif line == b"PONG":
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"INFO"):
            if not self.ready.done():
                self._greet(orjson.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            self._transport.close()
            self.connection_lost(BusRefused(line.decode()))

    def _greet(self, info: dict[str, Any]) -> None:
        signature = KeyPair.from_seed(self._credential.seed).sign(info["nonce"].encode())
        options = {
            "verbose": False,
            "pedantic": False,
            "lang": "overspill-bench",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "name": self._credential.name,
            "jwt": self._credential.jwt,
            "sig": base64.b64encode(signature).decode(),
        }
        words = [b"CONNECT " + orjson.dumps(options) + b"\r\n"]
        if self._inbox:
            words.append(b"SUB %s* 1\r\n" % self._prefix.encode())
        self._transport.write(b"".join([*words, b"PING\r\n"]))
