"""What a door acknowledged is there after nats-server was killed the very next instant; what it did not acknowledge is
there once or not at all, and told again under its name it is one job.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from shared.errors import Unavailable
from shared.facts import JobSubmitted
from shared.flow import JOBS, Job, Submit
from shared.ids import job_id_from_event, job_id_from_key
from shared.parties import GATEWAY, SCHEDULER, service_party
from tests.conftest import BusServer
from tests.integration.gateway.conftest import SPEC, Gateway, eventually, running

CLIENTS, EACH, KILLS = 8, 30, 3
SEED = 20


class Killer:
    """Kills the server right after an acknowledgement, at instants drawn from the seed, and starts it again."""

    def __init__(self, server: BusServer) -> None:
        self._server = server
        drawn = random.Random(SEED).sample(range(10, CLIENTS * EACH // 2), KILLS)
        self._at = sorted(drawn)
        self.acknowledged: list[str] = []
        self.kills = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def told(self, job: str) -> None:
        self.acknowledged.append(job)
        await self._idle.wait()
        if self._at and len(self.acknowledged) >= self._at[0] and self._idle.is_set():
            self._at.pop(0)
            self._server.kill()
            self.kills += 1
            self._idle.clear()
            await asyncio.to_thread(self._server.start)
            self._idle.set()

    async def at_rest(self) -> None:
        await self._idle.wait()


@pytest.fixture
async def doors(fresh_bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    server = fresh_bus_server
    async with (
        server.connect(server.identity.credential(GATEWAY)) as bus,
        server.connect(server.identity.credential(SCHEDULER)) as scheduler,
    ):

        async def hub(party: Any) -> Any:
            return {GATEWAY.name: bus, SCHEDULER.name: scheduler}[party.name]

        async with running(server, hub, tmp_path) as gateway:
            yield gateway


async def storm(
    names: list[str],
    submit: Callable[[str], Awaitable[str | None]],
    killer: Killer,
    reachable: Callable[[], Awaitable[bool]],
) -> list[str]:
    """Names whose submission was not acknowledged, told once each by many clients at once."""
    unacknowledged: list[str] = []

    async def client(mine: list[str]) -> None:
        for name in mine:
            job = await submit(name)
            if job is None:
                unacknowledged.append(name)
                await killer.at_rest()
                await eventually(reachable, bool, 20)
            else:
                await killer.told(job)

    async with asyncio.TaskGroup() as tasks:
        for index in range(CLIENTS):
            tasks.create_task(client(names[index::CLIENTS]))
    return unacknowledged


async def stored(gateway: Gateway) -> list[str]:
    """The jobs that are there, each as often as it was created."""
    found = [m async for m in gateway.scheduler.read(JOBS, Job.filter(tenant=gateway.tenant), from_seq=1)]
    return [Job.parse(message.subject).job for message in found]


async def test_every_201_survives_a_server_killed_at_once(doors: Gateway) -> None:
    killer = Killer(doors.bus_server)

    async def submit(key: str) -> str | None:
        try:
            answer = await doors.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            return None
        assert answer.status_code in (201, 503), answer.text
        return str(answer.json()["id"]) if answer.status_code == 201 else None

    async def reachable() -> bool:
        return bool((await doors.get("/readyz")).status_code == 200)

    keys = [f"key-{number}" for number in range(CLIENTS * EACH)]
    unacknowledged = await storm(keys, submit, killer, reachable)
    assert killer.kills == KILLS
    there = await eventually(lambda: _stored_or_none(doors), lambda found: found is not None, 20)
    assert set(killer.acknowledged) <= set(there)
    assert len(there) == len(set(there))
    named = {key: job_id_from_key(doors.tenant, key) for key in keys}
    assert set(there) <= set(named.values())
    for key in unacknowledged:
        again = await eventually(
            lambda key=key: doors.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key}),
            lambda answer: answer.status_code != 503,
            20,
        )
        assert (again.status_code == 200) == (named[key] in there), again.text
        assert again.json()["id"] == named[key]
    assert sorted(await stored(doors)) == sorted(named.values())


async def test_every_event_acknowledged_by_the_bus_door_becomes_one_job(doors: Gateway) -> None:
    killer, server = Killer(doors.bus_server), doors.bus_server
    credential = server.identity.credential(service_party(doors.tenant), tenant=doors.tenant)
    data = orjson.dumps({"spec": SPEC})
    async with server.connect(credential) as service:

        async def submit(event: str) -> str | None:
            headers = {"ce-id": event, "ce-source": "tests", "ce-type": JobSubmitted.event_type()}
            try:
                await service.publish(Submit(doors.tenant), data, headers=headers, timeout_seconds=2)
            except Unavailable:
                return None
            return job_id_from_event(doors.tenant, "tests", event)

        async def reachable() -> bool:
            return service.connected

        events = [f"event-{number}" for number in range(CLIENTS * EACH)]
        unacknowledged = await storm(events, submit, killer, reachable)
        assert killer.kills == KILLS
        acknowledged = set(killer.acknowledged)
        there = await eventually(lambda: _stored_or_none(doors), lambda found: acknowledged <= set(found or ()), 90)
        assert len(there) == len(set(there))
        for event in unacknowledged:
            await eventually(lambda event=event: submit(event), lambda job: job is not None, 20)
        named = {job_id_from_event(doors.tenant, "tests", event) for event in events}
        all_there = await eventually(lambda: _stored_or_none(doors), lambda found: set(found or ()) == named, 90)
        assert len(all_there) == len(named)


async def _stored_or_none(gateway: Gateway) -> list[str] | None:
    try:
        return await stored(gateway)
    except Unavailable:
        return None
