"""`shared.bus.KeyValue`: a bucket is the stream `KV_<name>` with subjects `$KV.<name>.<key>`, as NATS' own clients lay
it out.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from shared.adapters import nats_read
from shared.backoff import until_available
from shared.bus import Entry, Message
from shared.stream import Bucket

if TYPE_CHECKING:
    from shared.adapters.nats_bus import NatsBus

_OPERATION = "KV-Operation"
_MARKER = "Nats-Marker-Reason"


class NatsKeyValue:
    def __init__(self, bus: "NatsBus", bucket: Bucket) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket.name}"
        self._prefix = f"$KV.{bucket.name}."

    def _entry(self, message: Message) -> Entry:
        deleted = message.headers.get(_OPERATION) in ("DEL", "PURGE") or _MARKER in message.headers
        return Entry(message.subject.removeprefix(self._prefix), message.data, message.seq, deleted)

    async def _newest(self, key: str) -> Entry | None:
        message = await nats_read.last(self._bus, self._stream, self._prefix + key)
        return self._entry(message) if message else None

    async def get(self, key: str) -> Entry | None:
        entry = await self._newest(key)
        return None if entry is None or entry.deleted else entry

    async def all(self) -> dict[str, Entry]:
        return {entry.key: entry for entry in await self._snapshot() if not entry.deleted}

    async def _snapshot(self) -> list[Entry]:
        newest: dict[str, Entry] = {}
        async for message in nats_read.finite(self._bus, self._stream, (self._prefix + ">",), None):
            entry = self._entry(message)
            newest[entry.key] = entry
        return sorted(newest.values(), key=lambda entry: entry.revision)

    async def put(self, key: str, value: bytes) -> int:
        return (await self._bus.publish(self._prefix + key, value)).seq

    async def create(self, key: str, value: bytes, ttl_seconds: float | None = None) -> int:
        # A deleted key's marker still has a sequence, and expecting 0 would fail on it.
        marker = await self._newest(key)
        expected = marker.revision if marker is not None and marker.deleted else 0
        return await self.update(key, value, expected, ttl_seconds)

    async def update(self, key: str, value: bytes, revision: int, ttl_seconds: float | None = None) -> int:
        headers = {"Nats-TTL": f"{max(1, round(ttl_seconds))}s"} if ttl_seconds is not None else None
        return (await self._bus.publish(self._prefix + key, value, headers=headers, expect_seq=revision)).seq

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self._bus.publish(self._prefix + key, b"", headers={_OPERATION: "DEL"}, expect_seq=revision)

    async def watch(self) -> AsyncIterator[Entry]:
        position = 0
        for entry in await until_available(self._stream, self._snapshot):
            position = max(position, entry.revision)
            yield entry
        async for message in nats_read.endless(self._bus, self._stream, (self._prefix + ">",), position + 1):
            yield self._entry(message)
