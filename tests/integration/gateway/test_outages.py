"""The bus goes away and comes back; the gateway stays and tells the truth meanwhile."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Unavailable
from shared.parties import GATEWAY, SCHEDULER
from tests.integration.gateway.conftest import SPEC, Gateway, Logs, eventually, running
from tests.integration.gateway.test_streams import ENDED, PLACED, Stream, open_stream, runner_of


async def move_when_possible(gateway: Gateway, job: str, **changes: Any) -> None:
    async def moved() -> bool:
        try:
            await gateway.move(job, **changes)
        except Unavailable:
            return False
        return True

    await eventually(moved, bool, seconds=20)


async def test_history_is_told_without_a_bus_and_everything_goes_on_after_it(
    fresh_bus_server: Any, tmp_path: Path
) -> None:
    identity = fresh_bus_server.identity
    async with (
        fresh_bus_server.connect(identity.credential(GATEWAY)) as bus,
        fresh_bus_server.connect(identity.credential(SCHEDULER)) as scheduler,
    ):

        async def hub(party: Any) -> Any:
            return {GATEWAY.name: bus, SCHEDULER.name: scheduler}[party.name]

        async with running(fresh_bus_server, hub, tmp_path) as gateway:
            job = await gateway.submit()
            await eventually(lambda: gateway.get("/v1/jobs"), lambda answer: len(answer.json()["jobs"]) == 1)
            async with open_stream(gateway, f"/v1/jobs/{job}/events") as response:
                stream = Stream(response)
                assert (await stream.next())["data"]["data"]["state"] == "queued"
                fresh_bus_server.stop()
                await eventually(lambda: gateway.http.get("/readyz"), lambda answer: answer.status_code == 503)
                assert (await gateway.get(f"/v1/jobs/{job}")).json()["state"] == "queued"
                refused = await gateway.post("/v1/jobs", json=SPEC)
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) > 0
                fresh_bus_server.start()
                await eventually(lambda: gateway.http.get("/readyz"), lambda answer: answer.status_code == 200, 20)
                await move_when_possible(gateway, job, **PLACED)
                await move_when_possible(gateway, job, **ENDED)
                assert (await stream.next("end"))["data"]["state"] == "succeeded"
            assert (await gateway.post("/v1/jobs", json=SPEC)).status_code == 201


async def test_a_gateway_that_ends_closes_its_streams_so_that_clients_resume(
    bus_server: Any, hub_bus: Any, tmp_path: Path
) -> None:
    opened, ended = asyncio.Event(), asyncio.Event()

    async def follow(gateway: Gateway, job: str) -> None:
        async with open_stream(gateway, f"/v1/jobs/{job}/events") as response:
            async for _ in Stream(response).events():
                opened.set()
        ended.set()

    async with asyncio.TaskGroup() as tasks, running(bus_server, hub_bus, tmp_path) as gateway:
        tasks.create_task(follow(gateway, await gateway.submit()))
        await opened.wait()
        gateway.stop()
        async with asyncio.timeout(10):
            await ended.wait()


@dataclass
class Ending:
    """A gateway that ends while a log of it is followed; what it says of that in its own log."""

    gateway: Gateway
    log: pytest.LogCaptureFixture

    async def end(self) -> None:
        self.gateway.stop()
        async with asyncio.timeout(20):
            await asyncio.wait([self.gateway.serving])
        assert [record.getMessage() for record in self.log.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
async def ending(
    bus_server: Any, hub_bus: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Ending]:
    async with running(bus_server, hub_bus, tmp_path) as gateway:
        yield Ending(gateway, caplog)


async def rest_of(stream: Stream) -> list[dict[str, Any]]:
    return [event async for event in stream.events()]


async def test_a_gateway_that_ends_ends_a_followed_log_that_never_rests(
    ending: Ending, logs: Logs, hub_bus: Any
) -> None:
    runner = await runner_of(ending.gateway, logs, hub_bus)
    path = f"/v1/jobs/{runner.job}/logs?follow=true"

    async def write() -> None:
        while True:
            await runner.write(1, b"more\n")

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        async with open_stream(ending.gateway, path) as response:
            stream = Stream(response)
            await stream.next("log")
            reading = tasks.create_task(rest_of(stream))
            await ending.end()
            assert "end" not in {event["event"] for event in await reading}
        writing.cancel()


async def test_a_gateway_that_ends_ends_a_followed_log_that_nobody_reads_to_it(
    ending: Ending, logs: Logs, hub_bus: Any
) -> None:
    runner = await runner_of(ending.gateway, logs, hub_bus)
    asked, over = asyncio.Event(), asyncio.Event()

    async def late(_: Any) -> Any:
        asked.set()
        await over.wait()
        raise Unavailable(what="the log", why="it is over")

    await runner.write(1, b"before\n", live=False)
    async with open_stream(ending.gateway, f"/v1/jobs/{runner.job}/logs?follow=true") as response:
        stream = Stream(response)
        assert (await stream.next("log"))["id"] == "1:1=7"
        logs.answer_with = late
        await runner.write(1, b"missed\n", live=False)
        await runner.write(1, b"live\n")
        reading = asyncio.ensure_future(rest_of(stream))
        await asked.wait()
        try:
            await ending.end()
            assert await reading == []
        finally:
            over.set()


async def test_a_gateway_that_ends_does_not_wait_for_who_does_not_read(
    ending: Ending, logs: Logs, hub_bus: Any
) -> None:
    gateway = ending.gateway
    runner = await runner_of(gateway, logs, hub_bus)
    logs.logs[(runner.job, 1, 1)] = b"x" * 2**26
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = f"GET /v1/jobs/{runner.job}/logs?follow=true HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer"
    writer.write(f"{head} {gateway.token}\r\n\r\n".encode())
    await reader.readline()
    asked = -1
    while asked != logs.asked or not asked:  # until the gateway reads on no more
        asked = logs.asked
        await asyncio.sleep(0.5)
    await ending.end()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
