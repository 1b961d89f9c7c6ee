"""Somebody with a credential and no manners: speaks NATS directly, and sees what the server refuses."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import nats.errors
import orjson
from nats.aio.client import Client

from shared.adapters.nkeys import KeyPair
from shared.credential import Credential

WAIT_SECONDS = 10


class Attacker:
    def __init__(self) -> None:
        self.client = Client()
        self.refusals: list[str] = []
        self.lost = asyncio.Event()
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, credential: Credential, **options: Any) -> AsyncIterator[Self]:
        attacker = cls()
        key = KeyPair.from_seed(credential.seed)

        async def on_error(error: Exception) -> None:
            attacker.refusals.append(str(error).lower())

        async def on_lost() -> None:
            attacker.lost.set()

        await attacker.client.connect(
            url,
            user_jwt_cb=credential.jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(key.sign(nonce.encode())),
            inbox_prefix=credential.inbox_prefix.encode(),
            error_cb=on_error,
            disconnected_cb=on_lost,
            allow_reconnect=False,
            **options,
        )
        try:
            yield attacker
        finally:
            await attacker.client.close()

    async def _settle(self) -> None:
        """The server has seen what was sent, and we its refusals. nats-py's first ping overtakes what it buffered."""
        await self.client.flush(WAIT_SECONDS)
        await self.client.flush(WAIT_SECONDS)

    async def may_publish(self, subject: str, reply: str = "", headers: dict[str, str] | None = None) -> bool:
        """A refusal comes before the answer to the ping behind the message."""
        before = len(self.refusals)
        await self.client.publish(subject, b"{}", reply=reply, headers=headers)
        await self._settle()
        return not any("permissions violation" in text for text in self.refusals[before:])

    async def may_subscribe(self, subject: str) -> bool:
        """What is heard there from now on is in `heard`."""
        before = len(self.refusals)

        async def on_message(message: Any) -> None:
            self.heard.put_nowait((message.subject, message.data))

        await self.client.subscribe(subject, cb=on_message)
        await self._settle()
        return not any("permissions violation" in text for text in self.refusals[before:])

    async def gets_answer(self, subject: str) -> bool:
        """False also when nobody is there to answer."""
        try:
            await self.client.request(subject, b"{}", timeout=1)
        except (nats.errors.NoRespondersError, TimeoutError, nats.errors.Error):
            return False
        return True


async def comes_in(url: str, credential: Credential | None) -> bool:
    """Does the server answer a ping of somebody with this credential? By its protocol: a refused client of nats-py
    leaves sockets open.
    """
    host, _, port = url.removeprefix("nats://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            nonce = orjson.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
            told: dict[str, Any] = {"verbose": False, "pedantic": False, "lang": "test", "version": "1", "protocol": 1}
            if credential is not None:
                signature = KeyPair.from_seed(credential.seed).sign(nonce.encode())
                told |= {"jwt": credential.jwt, "sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}
            writer.write(b"CONNECT " + orjson.dumps(told) + b"\r\nPING\r\n")
            while (line := await reader.readline()) and not line.startswith((b"PONG", b"-ERR")):
                pass
            return line.startswith(b"PONG")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
