"""What is deleted is gone everywhere, whoever was killed in between, and nothing else is touched."""

from shared.facts import JobForgotten, StepStarted
from shared.flow import DONE, STREAMS, SUBMIT, TENANTS, Evt, Gone, LogTo, Submit
from shared.parties import attempt_party
from shared.wire import decode, encode
from tests.integration.doors.hub import LOG, SPEC, Hub
from tests.integration.gateway.conftest import eventually

LIMIT_SECONDS = 40


async def left_of(hub: Hub, tenant: str, job: str | None = None) -> list[str]:
    """Subjects and keys that name it. A tombstone is no remainder."""
    found = []
    if job is None and await hub.spy.last(SUBMIT, Submit(tenant)) is not None:
        found.append(str(Submit(tenant)))
    for stream in (stream for stream in STREAMS if stream != SUBMIT):
        async for message in hub.spy.read(stream, from_seq=1):
            tokens = message.subject.split(".")
            if tenant in tokens and (job is None or job in tokens) and tokens[0] != "gone":
                found.append(message.subject)
    async for item in hub.objects.list(""):
        parts = item.key.split("/")
        if tenant in parts and (job is None or job in parts) and parts[0] != "expiry":
            found.append(item.key)
    return found


async def lasting(hub: Hub, tenant: str, job: str | None = None) -> list[str]:
    """What stays as it is when nothing happens: chunks become parts and orders go by themselves."""
    passing = ("logs.", "order.")
    return sorted(one for one in await left_of(hub, tenant, job) if not one.startswith(passing) and "/logs/" not in one)


async def log_of(hub: Hub, tenant: str, job: str) -> bytes:
    return (await hub.ask("GET", f"/v1/jobs/{job}/logs?step=1", tenant)).content


async def test_a_deleted_job_is_gone_from_every_stream_and_store_and_no_other_is_touched(hub: Hub) -> None:
    tenant, other = await hub.new_tenant(), await hub.new_tenant()
    job, sibling, stranger = [await hub.run_job(t, key=t) for t in (tenant, other)] + [await hub.run_job(tenant)]
    del stranger
    kept = [(other, sibling), (tenant, await hub.run_job(tenant))]
    before = [await lasting(hub, *each) for each in kept]
    assert all(len(subjects) > 8 for subjects in before)
    assert len(await left_of(hub, tenant, job)) > 8
    answer = await hub.ask("DELETE", f"/v1/jobs/{job}", tenant)
    assert answer.status_code == 204, answer.text
    assert (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).status_code == 404
    assert (await hub.ask("DELETE", f"/v1/jobs/{job}", tenant)).status_code == 404
    await eventually(lambda: left_of(hub, tenant, job), lambda found: not found, LIMIT_SECONDS)
    assert [await lasting(hub, *each) for each in kept] == before
    assert [await log_of(hub, *each) for each in kept] == [LOG, LOG]
    for owner, name in kept:
        assert (await hub.ask("GET", f"/v1/jobs/{name}", owner)).status_code == 200
    again = await hub.ask("POST", "/v1/jobs", tenant, json=SPEC, headers={"Idempotency-Key": tenant})
    assert (again.status_code, again.json()["code"]) == (409, "job_deleted")


async def test_a_live_job_is_not_deleted_unless_it_may_be_cancelled(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.submit(tenant, {**SPEC, "runs-on": ["nowhere"]})
    refused = await hub.ask("DELETE", f"/v1/jobs/{job}", tenant)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_is_live")
    assert "cancel" in refused.json()["detail"]
    assert (await hub.ask("DELETE", f"/v1/jobs/{job}?cancel=true", tenant)).status_code == 202
    assert (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).status_code == 404
    await eventually(lambda: left_of(hub, tenant, job), lambda found: not found, LIMIT_SECONDS)


async def test_a_deletion_goes_on_when_everybody_was_down_in_between(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    await hub.stop("scheduler")
    assert (await hub.ask("DELETE", f"/v1/jobs/{job}", tenant)).status_code == 204
    for name in ("gateway", "cache", "logs", "metrics"):
        await hub.stop(name)
    # The leader comes first and finds nobody who would forget objects.
    await hub.start_scheduler()
    await hub.start_others()
    await hub.start_gateway()
    await eventually(lambda: left_of(hub, tenant, job), lambda found: not found, LIMIT_SECONDS)
    assert (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).status_code == 404


async def test_what_an_attempt_still_writes_about_a_deleted_job_leaves_nothing(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    await hub.ask("DELETE", f"/v1/jobs/{job}", tenant)
    await eventually(lambda: left_of(hub, tenant, job), lambda found: not found, LIMIT_SECONDS)
    runner = await hub.connect(attempt_party(tenant, job, 1), tenant=tenant)
    fact = StepStarted(tenant=tenant, job=job, epoch=1, at_unix_ns=1, step=1, name="late")
    await runner.publish(Evt(tenant, job, 1, fact.token()), encode(fact))
    await runner.publish(LogTo(tenant, job, 1, 1), b"late", headers={"Overspill-Offset": "0"})
    assert (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).status_code == 404
    assert await left_of(hub, tenant, job)
    found = await hub.spy.last(DONE, Gone(tenant, job))
    assert found is not None
    hub.clock.ahead_seconds = decode(JobForgotten, found.data).until_unix - hub.clock.now() + 60
    await eventually(lambda: hub.spy.last(DONE, Gone(tenant, job)), lambda found: found is None, LIMIT_SECONDS)
    assert not await left_of(hub, tenant, job)


async def test_a_deleted_tenant_is_gone_from_every_stream_and_store_and_no_other_is_touched(hub: Hub) -> None:
    tenant, other = await hub.new_tenant(), await hub.new_tenant()
    for owner in (tenant, other):
        await hub.run_job(owner)
    kept = await lasting(hub, other)
    waiting = await hub.submit(tenant, {**SPEC, "runs-on": ["nowhere"]})
    assert (await hub.ask("DELETE", f"/v1/tenants/{tenant}", other)).status_code == 202
    await eventually(lambda: hub.ask("GET", f"/v1/jobs/{waiting}", tenant), lambda a: a.status_code == 401)
    assert (await hub.ask("DELETE", f"/v1/tenants/{tenant}", other)).status_code == 202
    await eventually(lambda: left_of(hub, tenant), lambda found: not found, LIMIT_SECONDS)
    assert await lasting(hub, other) == kept
    hub.clock.ahead_seconds = 30 * 86_400
    await eventually(lambda: hub.spy.bucket(TENANTS).get(tenant), lambda found: found is None, LIMIT_SECONDS)
    assert (await hub.ask("DELETE", f"/v1/tenants/{tenant}", other)).status_code == 404


async def test_who_may_not_delete_does_not(hub: Hub) -> None:
    from shared.principal import Role

    tenant = await hub.new_tenant(role=Role.SUBMITTER)
    job = await hub.run_job(tenant)
    for path in (f"/v1/jobs/{job}", f"/v1/tenants/{tenant}"):
        assert (await hub.ask("DELETE", path, tenant)).status_code == 403
    assert (await hub.ask("GET", "/v1/dlq", tenant)).status_code == 403
    assert (await hub.ask("GET", f"/v1/jobs/{job}", tenant)).status_code == 200
