"""The promises of `shared.bus.KeyValue`, in code. A test class inherits it and gives a `bus` fixture."""

import asyncio

import pytest

from shared import flow
from shared.bus import Bus, Entry
from shared.errors import WrongSequence


class KeyValueContract:
    async def test_a_key_is_created_once(self, bus: Bus) -> None:
        bucket = bus.bucket(flow.TENANTS)
        await bucket.create("acme", b"1")
        with pytest.raises(WrongSequence):
            await bucket.create("acme", b"2")

    async def test_a_deleted_key_is_absent_and_can_be_created_again(self, bus: Bus) -> None:
        bucket = bus.bucket(flow.TENANTS)
        await bucket.create("acme", b"1")
        await bucket.delete("acme")
        assert await bucket.get("acme") is None
        assert await bucket.all() == {}
        revision = await bucket.create("acme", b"2")
        assert await bucket.get("acme") == Entry("acme", b"2", revision)

    async def test_an_update_on_an_old_revision_changes_nothing(self, bus: Bus) -> None:
        bucket = bus.bucket(flow.TENANTS)
        old = await bucket.put("acme", b"1")
        await bucket.update("acme", b"2", old)
        with pytest.raises(WrongSequence):
            await bucket.update("acme", b"3", old)

    async def test_a_lease_lapses_and_can_be_taken(self, bus: Bus) -> None:
        bucket = bus.bucket(flow.LEASE)
        await bucket.create("scheduler", b"one", ttl_seconds=1)
        async with asyncio.timeout(10):
            while True:
                try:
                    await bucket.create("scheduler", b"two", ttl_seconds=60)
                except WrongSequence:
                    continue
                break
        entry = await bucket.get("scheduler")
        assert entry is not None
        assert entry.value == b"two"

    async def test_a_watcher_sees_what_is_there_and_every_change(self, bus: Bus) -> None:
        bucket = bus.bucket(flow.TENANTS)
        await bucket.put("a", b"1")
        seen: list[tuple[str, bytes, bool]] = []
        async with asyncio.timeout(10):
            async for entry in bucket.watch():
                seen.append((entry.key, entry.value, entry.deleted))
                match len(seen):
                    case 1:
                        await bucket.put("b", b"2")
                    case 2:
                        await bucket.delete("a")
                    case 3:
                        break
        assert seen == [("a", b"1", False), ("b", b"2", False), ("a", b"", True)]
