"""Every byte, whatever it is, during the run and after it."""

import asyncio
import random

import pytest
import zstandard

from shared.adapters.nats_bus import NatsBus
from shared.adapters.s3_objects import S3Objects
from shared.facts.log import LogChunk
from shared.flow import DLQ, Svc, Tail
from shared.requests import ForgetAsked, ForgetTold
from shared.wire import decode, encode
from tests.integration.log_collector.steps import Step, collecting, quick

LOGS = {
    "empty": b"",
    "no newline": b"hello",
    "nul and invalid utf-8": b"a\0b\xff\xfe\xc3\n\x80" * 999,
    "ansi and carriage returns": "\x1b[31mé\r100%\r\n".encode() * 500,
    "one line of 10 MB": random.Random(1).randbytes(10_000_000).replace(b"\n", b" "),
}


@pytest.mark.parametrize("name", LOGS)
async def test_a_log_is_kept_byte_for_byte(bus: NatsBus, objects: S3Objects, name: str) -> None:
    async with collecting(quick(), bus, objects):
        step = Step(bus)
        await step.say(LOGS[name])
        await step.end()
        await step.until_complete()
        data, told = await step.log()
    assert data == LOGS[name]
    assert (told.complete, told.end, told.missing_bytes, told.verified) == (True, len(data), 0, True)


async def test_a_thousand_chunks_come_twice_and_in_any_order(bus: NatsBus, objects: S3Objects) -> None:
    chance = random.Random(7)
    lines = [f"line {number} {'x' * chance.randrange(300)}\n".encode() for number in range(1000)]
    step, chunks, offset = Step(bus), [], 0
    for line in lines:
        chunks.append(LogChunk(offset, line, ((offset, 1000 + offset),)))
        offset += len(line)
        step.hasher.update(line)
    step.sent = offset
    again = chance.sample(chunks, 300)
    mixed = sorted([*chunks, *again], key=lambda chunk: chunk.offset + chance.randrange(5000))
    async with collecting(quick(), bus, objects):
        for first in range(0, len(mixed), 100):
            await asyncio.gather(*(step.send(chunk) for chunk in mixed[first : first + 100]))
        await step.end()
        await step.until_complete()
        data, told = await step.log()
    assert data == b"".join(lines)
    assert (told.verified, told.missing_bytes) == (True, 0)


async def test_the_parts_alone_are_the_log_for_any_zstd(bus: NatsBus, objects: S3Objects) -> None:
    step = Step(bus)
    async with collecting(quick(part_bytes=65_536), bus, objects):
        for number in range(50):
            await step.say(f"line {number}\n".encode() * 800)
        await step.end()
        await step.until_complete()
    parts = [await objects.get(item.key) async for item in objects.list(step.id.prefix)]
    assert len(parts) > 1
    told = b""
    for part in parts:
        with zstandard.ZstdDecompressor().stream_reader(part, read_across_frames=True) as stream:
            told += stream.read()
    assert told == b"".join(f"line {number}\n".encode() * 800 for number in range(50))


async def test_a_log_can_be_read_while_it_is_written(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(part_age_seconds=3600), bus, objects):
        step = Step(bus)
        async with bus.listen(Tail.filter(tenant="acme", job=step.id.job)) as tail:
            for number in range(20):
                await step.say(f"line {number}\n".encode())
                live = await asyncio.wait_for(anext(tail), 10)
                assert live.data == f"line {number}\n".encode()
            async with asyncio.timeout(10):
                while (read := await step.page())[1].end < step.sent:
                    pass
        assert read[0] == b"".join(f"line {number}\n".encode() for number in range(20))
        assert not read[1].complete
        assert [item async for item in objects.list(step.id.prefix)] == []


async def test_durable_with_flush_stores_what_waits(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(part_age_seconds=3600), bus, objects):
        step = Step(bus)
        await step.say(b"some bytes")
        assert (await step.durable(flush=False)).durable_bytes == {1: 0}
        told = await step.durable(flush=True)
        assert (told.durable_bytes, told.complete) == ({1: 10}, [])
        await step.say(b", more bytes")
        await step.end()
        told = await step.durable(flush=True)
        assert (told.durable_bytes, told.complete) == ({1: 22}, [1])


async def test_a_small_part_grows_instead_of_being_followed_by_many(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(part_age_seconds=3600), bus, objects):
        step = Step(bus)
        for number in range(20):
            await step.say(f"{number} ".encode())
            await step.durable(flush=True)
        assert (await step.log())[0] == b"".join(f"{number} ".encode() for number in range(20))
    assert len([item async for item in objects.list(step.id.prefix)]) == 1
    async with collecting(quick(), bus, objects):
        assert (await step.log())[0] == b"".join(f"{number} ".encode() for number in range(20))


async def test_each_lines_time_can_be_asked_for(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(part_age_seconds=3600, grow_bytes=0), bus, objects):
        step = Step(bus)
        for number in range(10):
            await step.say(b"12345\n", ms=1_000_000 + number * 1000)
            if number % 3 == 0:
                await step.durable(flush=True)
        assert (await step.durable(flush=False)).durable_bytes == {1: 60}
        async with asyncio.timeout(10):
            while (await step.page())[1].end < 60:
                pass
        _, told = await step.page()
        assert told.times == [(number * 6, 1_000_000 + number * 1000) for number in range(10)]
        data, told = await step.page(offset=8, limit_bytes=10)
        assert (data, told.times) == (b"345\n12345\n", [(8, 1_001_000), (12, 1_002_000)])
        for since, begin in (
            (0, 0),
            (1_000_001, 6),
            (1_004_000, 24),
            (1_004_001, 30),
            (1_009_000, 54),
            (1_009_001, 60),
        ):
            _, told = await step.page(since_unix_ms=since)
            assert told.offset == begin


async def test_a_hole_is_waited_for_and_then_given_up_in_words(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(hole_seconds=1.0), bus, objects):
        step = Step(bus)
        await step.say(b"0123")
        await step.send(LogChunk(8, b"89"))
        data, told = await step.page()
        assert told.end in (0, 4)
        async with asyncio.timeout(20):
            while (told := (await step.page())[1]).end < 10:
                pass
        assert told.missing_bytes == 4
        data, told = await step.page(offset=4)
        assert (data, told.offset) == (b"89", 8)
        assert (await step.durable(flush=True)).durable_bytes == {1: 4}
        await step.send(LogChunk(4, b"4567"))
        assert (await step.durable(flush=True)).durable_bytes == {1: 10}
        data, told = await step.page()
        assert (data, told.missing_bytes) == (b"0123456789", 0)


async def test_a_log_that_is_not_what_the_runner_said_says_so(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(), bus, objects):
        step = Step(bus)
        await step.say(b"these bytes")
        step.hasher.update(b"not sent")
        await step.end()
        await step.until_complete()
        _, told = await step.page()
        assert (told.complete, told.verified) == (True, False)


async def test_what_is_no_chunk_is_buried_with_why_and_holds_up_nothing(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(), bus, objects):
        before = await bus.end_seq(DLQ)
        step = Step(bus)
        for headers in ({}, {"Overspill-Offset": "x"}, {"Overspill-Offset": "-1"}, {"Overspill-Offset": str(10**15)}):
            await bus.publish(step.id.subject, b"x", headers=headers)
        await bus.publish(step.id.subject, b"x" * 70_000, headers={"Overspill-Offset": "0"})
        await step.say(b"good")
        await step.end()
        await step.until_complete()
        assert (await step.page())[0] == b"good"
        buried = [message async for message in bus.read(DLQ, from_seq=before + 1)]
        assert len(buried) == 5
        assert all(message.headers["Overspill-Why"] for message in buried)


async def test_a_log_that_never_was_is_empty_and_unfinished(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(), bus, objects):
        data, told = await Step(bus).page(offset=5)
        assert (data, told.end, told.complete) == (b"", 0, False)


async def test_a_forgotten_jobs_logs_are_gone(bus: NatsBus, objects: S3Objects) -> None:
    async with collecting(quick(), bus, objects):
        step = Step(bus)
        await step.say(b"secret")
        await step.end()
        await step.until_complete()
        asked = ForgetAsked(tenant=step.id.tenant, job=step.id.job)
        answer = await bus.request(Svc("log-collector", "forget"), encode(asked))
        assert decode(ForgetTold, answer.data).objects == 1
        assert (await step.page())[0] == b""
