"""What ends, stays as long as it should, and no longer."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx

from services.cache.sweep import sweep_due
from services.gateway.projection.schema import ROWS
from services.gateway.wiring import PROJECTION_FILE
from shared.flow import DONE, JOBS, Done, Gone, Job, Spec
from tests.integration.doors.hub import Hub
from tests.integration.doors.test_deleting import left_of
from tests.integration.gateway.conftest import eventually

LIMIT_SECONDS = 40
DAY = 86_400


def rows(directory: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(directory / PROJECTION_FILE) as db:
        found = {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in ROWS[:-2]}
        found |= {table: sorted(db.execute(f"SELECT * FROM {table}").fetchall()) for table in ROWS[-2:]}
    db.close()
    return found


async def test_a_finished_job_leaves_the_live_jobs_after_its_hour_and_stays_in_the_history(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    assert await hub.spy.last(JOBS, Spec(tenant, job)) is not None
    hub.clock.ahead_seconds = 3000
    await hub.run_job(tenant)
    assert await hub.spy.last(JOBS, Job(tenant, job)) is not None
    hub.clock.ahead_seconds = 3700
    await eventually(lambda: hub.spy.last(JOBS, Job(tenant, job)), lambda found: found is None, LIMIT_SECONDS)
    assert await hub.spy.last(JOBS, Spec(tenant, job)) is None
    view = (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).json()
    assert (view["state"], view["steps"][0]["state"]) == ("succeeded", "exited")
    assert (await hub.ask("GET", f"/v1/jobs/{job}/why", tenant)).json()["code"] == "all_steps_ok"


async def test_history_ends_by_each_tenants_own_time_and_takes_logs_and_artifacts_along(hub: Hub) -> None:
    short = await hub.new_tenant(history_seconds=10 * DAY)
    long = await hub.new_tenant(history_seconds=90 * DAY)
    gone, stays = await hub.run_job(short), await hub.run_job(long)
    hub.clock.ahead_seconds = 9 * DAY
    await eventually(lambda: hub.spy.last(JOBS, Job(short, gone)), lambda found: found is None, LIMIT_SECONDS)
    assert await hub.spy.last(DONE, Done(short, gone)) is not None
    hub.clock.ahead_seconds = 11 * DAY
    await eventually(lambda: left_of(hub, short), lambda found: not found, LIMIT_SECONDS)
    await eventually(lambda: hub.ask("GET", f"/v1/jobs/{gone}", short), lambda a: a.status_code == 404)
    assert await hub.spy.last(DONE, Gone(long, stays)) is None
    assert (await hub.ask("GET", f"/v1/jobs/{stays}", long)).json()["state"] == "succeeded"
    hub.clock.ahead_seconds = 30 * DAY
    await eventually(lambda: hub.spy.last(DONE, Gone(short, gone)), lambda found: found is None, LIMIT_SECONDS)


async def test_artifacts_are_found_for_as_long_as_they_are_kept_and_no_longer(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    hub.clock.ahead_seconds = 8 * DAY
    await hub.stop("gateway")
    await hub.start_gateway()
    view = await eventually(
        lambda: hub.ask("GET", f"/v1/jobs/{job}", tenant),
        lambda answer: answer.status_code == 200 and answer.json()["steps"][0]["state"] == "pending",
    )
    assert [artifact["name"] for artifact in view.json()["artifacts"]] == ["Out put"]
    path = f"/v1/jobs/{job}/artifacts/Out%20put"
    told = (await hub.ask("GET", path, tenant, headers={"Accept": "application/json"})).json()
    async with httpx.AsyncClient() as http:
        assert (await http.get(told["url"])).content == b"tar"
    hub.clock.ahead_seconds = 32 * DAY
    assert await sweep_due(hub.objects, hub.clock.now(), 1000) == 1
    answer = await hub.ask("GET", path, tenant)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_projection_made_from_nothing_equals_the_one_that_saw_it_all(hub: Hub) -> None:
    tenant, other = await hub.new_tenant(history_seconds=10 * DAY), await hub.new_tenant()
    jobs = [await hub.run_job(owner) for owner in (tenant, other, other, other)]
    assert (await hub.ask("DELETE", f"/v1/jobs/{jobs[1]}", other)).status_code == 204
    await eventually(lambda: left_of(hub, other, jobs[1]), lambda found: not found, LIMIT_SECONDS)
    for days in (0, 1, 8, 11):
        hub.clock.ahead_seconds = days * DAY
        if days == 11:
            await eventually(lambda: left_of(hub, tenant), lambda found: not found, LIMIT_SECONDS)
        # Restarted, each looks once at what is past its time.
        for directory in ("gateway", f"new-{days}"):
            await hub.stop("gateway")
            await hub.start_gateway(directory)
            count = len((await hub.ask("GET", "/v1/jobs", other)).json()["jobs"])
            assert count == 2
        old, new = rows(hub.directory / "gateway"), rows(hub.directory / f"new-{days}")
        # Notes of tombstones go some time after the tombstones; nobody sees them.
        old.pop("gone")
        new.pop("gone")
        assert old == new
        assert bool(old["steps"]) == (days < 6)
        assert len(old["jobs"]) == (2 if days == 11 else 3)
