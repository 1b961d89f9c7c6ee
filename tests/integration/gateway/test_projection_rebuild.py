"""The read model goes on where it stopped, and comes back from nothing."""

import sqlite3
from pathlib import Path
from typing import Any

from services.gateway.wiring import PROJECTION_FILE
from shared.adapters.nats_api import api
from shared.adapters.nats_permissions import PROVISIONER
from shared.adapters.provision import provision
from shared.flow import DONE, EVT, JOBS, TENANTS, Done, Job
from shared.parties import GATEWAY, SCHEDULER
from shared.tenancy import TenantRecord
from shared.wire import decode, encode
from tests.integration.gateway.conftest import SPEC, Gateway, eventually, running
from tests.integration.gateway.test_streams import ENDED, PLACED, run_attempt


async def listed(gateway: Gateway) -> Any:
    page = (await gateway.get("/v1/jobs")).json()
    return {job["id"]: (await gateway.get(f"/v1/jobs/{job['id']}")).json() for job in page["jobs"]}


def without_clock(jobs: Any) -> Any:
    return {key: {name: value for name, value in job.items() if name != "times"} for key, job in jobs.items()}


async def a_history(gateway: Gateway) -> None:
    for ends in (True, False):
        job = await gateway.submit()
        await gateway.move(job, **PLACED)
        await run_attempt(gateway, job)
        if ends:
            await gateway.move(job, **ENDED)
    await eventually(
        lambda: gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.json()["steps"][1]["state"] == "exited"
    )


async def test_a_restarted_gateway_knows_everything_and_one_rebuilt_from_nothing_knows_the_same(
    bus_server: Any, hub_bus: Any, tmp_path: Path
) -> None:
    async with running(bus_server, hub_bus, tmp_path) as gateway:
        await a_history(gateway)
        before, tenant = await listed(gateway), gateway.tenant
    for directory in (tmp_path, tmp_path / "empty"):
        async with running(bus_server, hub_bus, directory) as gateway:
            await take_over(gateway, tenant)
            assert without_clock(await listed(gateway)) == without_clock(before)


async def take_over(gateway: Gateway, tenant: str) -> None:
    """From here on the running test's key is one of the tenant whose jobs are asked for."""
    bucket = gateway.bus.bucket(TENANTS)
    entry = await bucket.get(gateway.tenant)
    assert entry is not None
    await bucket.delete(gateway.tenant)
    await gateway.put_tenant(tenant, decode(TenantRecord, entry.value).api_keys[0])
    await eventually(lambda: gateway.get("/v1/me"), lambda answer: answer.json().get("tenant") == tenant)


async def test_a_job_whose_live_record_was_purged_stays_in_history_and_its_key_stays_used(
    bus_server: Any, hub_bus: Any, tmp_path: Path
) -> None:
    async with running(bus_server, hub_bus, tmp_path) as gateway:
        key = {"Idempotency-Key": "k"}
        job = await gateway.submit(headers=key)
        ended = await gateway.move(job, **PLACED)
        ended = await gateway.move(job, **ENDED)
        await gateway.scheduler.publish(Done(gateway.tenant, job), encode(ended), expect_seq=0)
        async with bus_server.connect(bus_server.identity.credential(PROVISIONER)) as bus:
            await bus.purge(JOBS, str(Job(gateway.tenant, job)))
            await bus.purge(JOBS, f"spec.{gateway.tenant}.{job}")
        assert (await gateway.get(f"/v1/jobs/{job}")).json()["state"] == "succeeded"
        again = await gateway.post("/v1/jobs", json=SPEC, headers=key)
        assert (again.status_code, again.json()["id"]) == (200, job)
        other = await gateway.post("/v1/jobs", json={**SPEC, "name": "o"}, headers=key)
        assert other.status_code == 422
        assert (await gateway.get(f"/v1/jobs/{job}/spec")).status_code == 404
        assert await gateway.bus.last(DONE, Done(gateway.tenant, job)) is not None


async def test_another_incarnation_of_the_stream_is_noticed_and_the_read_model_made_anew(
    fresh_bus_server: Any, tmp_path: Path
) -> None:
    identity = fresh_bus_server.identity
    async with (
        fresh_bus_server.connect(identity.credential(PROVISIONER)) as admin,
        fresh_bus_server.connect(identity.credential(GATEWAY)) as bus,
        fresh_bus_server.connect(identity.credential(SCHEDULER)) as scheduler,
    ):

        async def hub(party: Any) -> Any:
            return {GATEWAY.name: bus, SCHEDULER.name: scheduler}[party.name]

        async with running(fresh_bus_server, hub, tmp_path) as gateway:
            await a_history(gateway)
        for stream in (EVT, JOBS):
            await api(admin, f"STREAM.DELETE.{stream.name}")
        await provision(admin)
        async with running(fresh_bus_server, hub, tmp_path / "other") as gateway:
            # More than before, so that sequences alone would not tell.
            for _ in range(30):
                await gateway.submit()
            tenant = gateway.tenant
        async with running(fresh_bus_server, hub, tmp_path) as gateway:
            await take_over(gateway, tenant)
            assert len((await gateway.get("/v1/jobs")).json()["jobs"]) == 30
            with sqlite3.connect(tmp_path / "gateway" / PROJECTION_FILE) as db:
                assert db.execute("SELECT DISTINCT tenant FROM jobs").fetchall() == [(tenant,)]
            db.close()
