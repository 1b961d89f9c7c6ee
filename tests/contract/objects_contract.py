"""The docstrings of `shared.objects.Objects`, in code. A test class inherits it and gives an `objects` fixture."""

import asyncio

import httpx
import pytest

from shared.errors import NotFound
from shared.objects import Objects


class ObjectsContract:
    async def test_what_was_put_is_read_back_byte_for_byte(self, objects: Objects) -> None:
        data = bytes(range(256)) * 5000
        await objects.put("a/all bytes ä", data)
        assert await objects.get("a/all bytes ä") == data

    async def test_an_empty_object_is_an_object(self, objects: Objects) -> None:
        await objects.put("empty", b"")
        assert await objects.get("empty") == b""
        info = await objects.info("empty")
        assert info is not None
        assert info.size_bytes == 0

    async def test_a_second_put_replaces(self, objects: Objects) -> None:
        await objects.put("twice", b"one")
        await objects.put("twice", b"two")
        assert await objects.get("twice") == b"two"

    async def test_a_range_is_its_bytes_and_nothing_past_the_end(self, objects: Objects) -> None:
        await objects.put("range", b"0123456789")
        assert await objects.get("range", 2, 5) == b"234"
        assert await objects.get("range", 7) == b"789"
        assert await objects.get("range", 8, 100) == b"89"
        assert await objects.get("range", 10) == b""
        assert await objects.get("range", 4, 4) == b""

    async def test_an_absent_key_is_not_found(self, objects: Objects) -> None:
        with pytest.raises(NotFound):
            await objects.get("absent")
        assert await objects.info("absent") is None

    async def test_list_gives_the_prefix_in_key_order_and_nothing_else(self, objects: Objects) -> None:
        for key in ("list/b", "list/a", "list/c/d", "listed"):
            await objects.put(key, key.encode())
        found = [item async for item in objects.list("list/")]
        assert [item.key for item in found] == ["list/a", "list/b", "list/c/d"]
        assert [item.size_bytes for item in found] == [6, 6, 8]

    async def test_list_goes_on_past_one_page(self, objects: Objects) -> None:
        keys = [f"many/{number:05d}" for number in range(1205)]
        for first in range(0, len(keys), 50):
            await asyncio.gather(*(objects.put(key, b"") for key in keys[first : first + 50]))
        assert [item.key async for item in objects.list("many/")] == keys
        await objects.delete(*keys)
        assert [item async for item in objects.list("many/")] == []

    async def test_deleting_what_is_not_there_is_no_error(self, objects: Objects) -> None:
        await objects.put("gone", b"x")
        await objects.delete("gone", "never/was")
        await objects.delete("gone")
        await objects.delete()
        assert await objects.info("gone") is None

    async def test_modified_is_a_time_of_now(self, objects: Objects) -> None:
        await objects.put("old", b"1")
        info = await objects.info("old")
        assert info is not None
        [listed] = [item async for item in objects.list("old")]
        assert abs(listed.modified_unix - info.modified_unix) < 2

    async def test_a_presigned_put_takes_exactly_the_signed_length(self, objects: Objects) -> None:
        url = await objects.presign("PUT", "up load", expires_seconds=60, size_bytes=5)
        async with httpx.AsyncClient() as http:
            assert (await http.put(url, content=b"123456")).status_code == 403
            assert await objects.info("up load") is None
            assert (await http.put(url, content=b"12345")).status_code == 200
        assert await objects.get("up load") == b"12345"

    async def test_a_presigned_get_gives_the_bytes_under_the_wanted_name(self, objects: Objects) -> None:
        await objects.put("down", b"bytes")
        url = await objects.presign("GET", "down", expires_seconds=60, filename='größe "1".tar.gz')
        async with httpx.AsyncClient() as http:
            answer = await http.get(url)
        assert answer.content == b"bytes"
        assert "gr%C3%B6%C3%9Fe" in answer.headers["content-disposition"]

    async def test_a_presigned_address_is_for_one_key_and_one_method(self, objects: Objects) -> None:
        await objects.put("mine", b"m")
        await objects.put("mine2", b"other")
        url = await objects.presign("GET", "mine", expires_seconds=60)
        async with httpx.AsyncClient() as http:
            assert (await http.get(url.replace("/mine?", "/mine2?"))).status_code == 403
            assert (await http.put(url, content=b"x")).status_code == 403
            assert (await http.delete(url)).status_code == 403
        assert await objects.get("mine") == b"m"
