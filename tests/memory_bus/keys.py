"""Buckets: keys with revisions, of which some lapse."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from shared.backoff import until_available
from shared.bus import Entry
from shared.errors import WrongSequence

if TYPE_CHECKING:
    from tests.memory_bus.bus import MemoryBus


class Keys:
    """One bucket, as the server keeps it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.entries: dict[str, Entry] = {}
        self._now = now
        self._revision = 0
        self._until: dict[str, float] = {}
        self.watchers: list[asyncio.Queue[Entry | None]] = []

    def lapse(self) -> None:
        for key in [key for key, until in self._until.items() if until <= self._now()]:
            self.write(key, b"", None, None, deleted=True)

    def stands(self, key: str) -> Entry | None:
        self.lapse()
        entry = self.entries.get(key)
        return None if entry is None or entry.deleted else entry

    def create(self, key: str, value: bytes, ttl_seconds: float | None) -> int:
        if self.stands(key) is not None:
            raise WrongSequence(subject=key, expected=0)
        return self.write(key, value, None, ttl_seconds)

    def write(
        self, key: str, value: bytes, expect: int | None, ttl_seconds: float | None, *, deleted: bool = False
    ) -> int:
        if not deleted:
            self.lapse()
        known = self.entries.get(key)
        if expect is not None and (known.revision if known else 0) != expect:
            raise WrongSequence(subject=key, expected=expect)
        self._revision += 1
        self._until.pop(key, None)
        if ttl_seconds is not None:
            self._until[key] = self._now() + max(1, round(ttl_seconds))
        entry = self.entries[key] = Entry(key, value, self._revision, deleted)
        for watcher in self.watchers:
            watcher.put_nowait(entry)
        return self._revision


class MemoryKeyValue:
    """See `shared.bus.KeyValue`."""

    def __init__(self, bus: "MemoryBus", keys: Keys, name: str) -> None:
        self._bus, self._keys, self._name = bus, keys, name

    async def get(self, key: str) -> Entry | None:
        await self._bus.way()
        return self._keys.stands(key)

    async def all(self) -> dict[str, Entry]:
        await self._bus.way()
        self._keys.lapse()
        return {key: entry for key, entry in self._keys.entries.items() if not entry.deleted}

    async def put(self, key: str, value: bytes) -> int:
        return await self._bus.written(self._subject(key), lambda: self._keys.write(key, value, None, None))

    async def create(self, key: str, value: bytes, ttl_seconds: float | None = None) -> int:
        return await self._bus.written(self._subject(key), lambda: self._keys.create(key, value, ttl_seconds))

    async def update(self, key: str, value: bytes, revision: int, ttl_seconds: float | None = None) -> int:
        return await self._bus.written(self._subject(key), lambda: self._keys.write(key, value, revision, ttl_seconds))

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self._bus.written(self._subject(key), lambda: self._keys.write(key, b"", revision, None, deleted=True))

    def _subject(self, key: str) -> str:
        return f"$KV.{self._name}.{key}"

    async def watch(self) -> AsyncIterator[Entry]:
        queue: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._keys.watchers.append(queue)
        wake = self._again(queue)
        self._bus.on_reconnect(wake)
        try:
            for entry in (await until_available(self._name, self.all)).values():
                yield entry
            while True:
                changed = await queue.get()
                if changed is not None:
                    yield changed
                    continue
                for entry in (await until_available(self._name, self.all)).values():
                    yield entry
        finally:
            self._keys.watchers.remove(queue)
            self._bus.forget_wake(wake)

    def _again(self, queue: "asyncio.Queue[Entry | None]") -> Callable[[], None]:
        return lambda: queue.put_nowait(None)
