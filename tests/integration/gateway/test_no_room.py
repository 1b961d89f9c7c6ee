"""A bus that is nearly full takes no new job and says why, goes on with those it has, and recovers by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.gateway import room
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.errors import StreamFull
from shared.facts import JobSubmitted
from shared.flow import EVT, SUBMIT, Evt, Job, Submit
from shared.ids import job_id_from_event
from shared.parties import GATEWAY, SCHEDULER, attempt_party, service_party
from tests.conftest import BusServer
from tests.integration.gateway.conftest import SPEC, Gateway, eventually, running
from tests.integration.gateway.test_streams import ENDED, PLACED

STORE_BYTES = 16 * 2**20


@pytest.fixture
async def small(fresh_bus_server: BusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway on a bus that may store 16 MiB."""
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    server = fresh_bus_server
    async with server.connect(server.identity.credential(PROVISIONER)) as bus:
        await provision(bus, store_bytes=STORE_BYTES)
    async with (
        server.connect(server.identity.credential(GATEWAY)) as bus,
        server.connect(server.identity.credential(SCHEDULER)) as scheduler,
    ):

        async def hub(party: Any) -> Any:
            return {GATEWAY.name: bus, SCHEDULER.name: scheduler}[party.name]

        async with running(server, hub, tmp_path) as gateway:
            yield gateway


async def fill(gateway: Gateway, job: str) -> None:
    """EVT, by the attempt of another job, until the doors close."""
    credential = gateway.bus_server.identity.credential(attempt_party(gateway.tenant, job, 1), tenant=gateway.tenant)
    async with gateway.bus_server.connect(credential) as runner:
        while not (await gateway.http.get("/readyz")).json()["warnings"]:
            await runner.publish(Evt(gateway.tenant, job, 1, "step-summarised"), b"{}" + b" " * 250_000)


async def test_a_full_bus_refuses_new_jobs_with_the_reason_and_ends_the_others(small: Gateway) -> None:
    first = await small.submit(headers={"Idempotency-Key": "first"})
    running_job = await small.submit()
    await fill(small, "noisy")
    refused = await small.post("/v1/jobs", json=SPEC)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    told = refused.json()
    assert told["code"] == "no_room"
    assert "of the 16 MiB it may store" in told["detail"]
    assert (await small.http.get("/readyz")).status_code == 200
    # What was taken before is still answered for, and what runs ends.
    again = await small.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.json()["id"]) == (200, first)
    await small.move(running_job, **PLACED)
    await small.move(running_job, **ENDED)
    ended = await eventually(lambda: small.get(f"/v1/jobs/{running_job}"), lambda a: a.json()["state"] == "succeeded")
    assert ended.status_code == 200


async def test_the_doors_open_by_themselves_and_the_bus_door_forgot_nothing(small: Gateway) -> None:
    await small.submit()
    await fill(small, "noisy")
    identity = small.bus_server.identity
    async with small.bus_server.connect(
        identity.credential(service_party(small.tenant), tenant=small.tenant)
    ) as service:
        headers = {"ce-id": "one", "ce-source": "tests", "ce-type": JobSubmitted.event_type()}
        await service.publish(Submit(small.tenant), orjson.dumps({"spec": SPEC}), headers=headers)
    job = job_id_from_event(small.tenant, "tests", "one")
    assert (await small.get(f"/v1/jobs/{job}")).status_code == 404
    async with small.bus_server.connect(identity.credential(PROVISIONER)) as operator:
        await operator.purge(EVT, Evt.filter(job="noisy"))
    taken = await eventually(lambda: small.post("/v1/jobs", json=SPEC), lambda answer: answer.status_code != 503)
    assert taken.status_code == 201
    assert (await small.http.get("/readyz")).json()["warnings"] == []
    await eventually(lambda: small.get(f"/v1/jobs/{job}"), lambda answer: answer.status_code == 200, 30)


async def test_a_flood_of_events_fills_its_share_and_is_told_so(small: Gateway) -> None:
    small.stop()  # nobody takes them
    with contextlib.suppress(asyncio.CancelledError):
        await small.serving
    identity = small.bus_server.identity
    credential = identity.credential(service_party(small.tenant), tenant=small.tenant)
    async with small.bus_server.connect(credential) as service:
        sent = 0
        with contextlib.suppress(StreamFull):
            while sent < STORE_BYTES:
                await service.publish(Submit(small.tenant), b" " * 200_000)
                sent += 200_000
        assert sent <= SUBMIT.share * STORE_BYTES
        with pytest.raises(StreamFull, match="maximum bytes exceeded"):
            await service.publish(Submit(small.tenant), b" " * 200_000)
    # What ends jobs is stored as before.
    assert (await small.scheduler.publish(Job(small.tenant, "after"), b"{}")).seq > 0
