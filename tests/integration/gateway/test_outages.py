"""The bus goes away and comes back; the gateway stays and tells the truth meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

from shared.errors import Unavailable
from shared.parties import GATEWAY, SCHEDULER
from tests.integration.gateway.conftest import SPEC, Gateway, eventually, running
from tests.integration.gateway.test_streams import ENDED, PLACED, Stream, open_stream


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
