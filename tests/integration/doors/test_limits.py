"""Each limit of a tenant, on the running services: it holds; its refusal names the limit, its value and a remedy."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import orjson

from shared.errors import Unavailable
from shared.facts import JobSubmitted, SubmissionRefused
from shared.flow import SUBMIT, SUBMIT_BACKLOG, Submit
from shared.parties import service_party
from shared.tenancy import TenantLimits
from shared.wire import decode
from tests.integration.doors.hub import Hub
from tests.integration.gateway.conftest import eventually

WAITING: dict[str, Any] = {"runs-on": ["nowhere"], "steps": [{"run": "true"}]}
LIMIT_SECONDS = 40


def refused(answer: Any, status: int, code: str, *words: str) -> None:
    told = answer.json()
    assert (answer.status_code, told["code"], told["status"]) == (status, code, status), told
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(word in told["detail"] for word in words), told["detail"]
    assert status != 429 or int(answer.headers["retry-after"]) >= 1


async def test_requests_past_the_tenants_rate_are_told_when_to_come_again_and_others_are_served(hub: Hub) -> None:
    other = await hub.new_tenant()
    slow = await hub.new_tenant(limits=TenantLimits(requests_per_second=0.001, request_burst=5))
    answers = [await hub.ask("GET", "/v1/jobs", slow) for _ in range(8)]
    refused(answers[-1], 429, "rate_limited", slow, "0.001")
    assert int(answers[-1].headers["retry-after"]) > 100
    assert (await hub.ask("GET", "/v1/jobs", other)).status_code == 200


async def test_jobs_past_the_tenants_queue_are_refused_at_both_doors(hub: Hub) -> None:
    tenant = await hub.new_tenant(limits=TenantLimits(max_queued_jobs=2))
    for _ in range(2):
        await hub.submit(tenant, WAITING)
    refused(await hub.ask("POST", "/v1/jobs", tenant, json=WAITING), 429, "too_many_queued", "limit is 2", "cancel")
    detail = await refused_on_the_bus(hub, tenant, WAITING)
    assert (detail.code, "limit is 2" in detail.detail) == ("too_many_queued", True)


async def test_specs_trees_and_bodies_past_their_size_are_refused(hub: Hub) -> None:
    tenant = await hub.new_tenant(limits=TenantLimits(max_spec_bytes=300, max_source_bytes=1000))
    long = {"steps": [{"run": "x" * 400}]}
    refused(await hub.ask("POST", "/v1/jobs", tenant, json=long), 422, "limit_exceeded", "300", "source")
    told = await refused_on_the_bus(hub, tenant, long)
    assert (told.code, "300" in told.detail) == ("limit_exceeded", True)
    tree = {"sha256": "0" * 64, "size_bytes": 1001}
    refused(await hub.ask("POST", "/v1/sources", tenant, json=tree), 422, "limit_exceeded", "1001", "1000")
    huge = await hub.ask("POST", "/v1/jobs", tenant, content=b" " * 400_000)
    refused(huge, 413, "body_too_large", "393216", "source")


async def test_artifacts_past_their_count_are_refused(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    many = {**WAITING, "artifacts": [{"name": f"a{number}", "paths": ["x"]} for number in range(33)]}
    refused(await hub.ask("POST", "/v1/jobs", tenant, json=many), 422, "spec_refused", "artifacts", "32")


async def test_followers_past_the_tenants_limit_are_told_when_to_come_again_and_others_follow(hub: Hub) -> None:
    await hub.stop("gateway")
    await hub.start_gateway("few", max_followers_of_tenant=2)
    tenant, other = await hub.new_tenant(), await hub.new_tenant()
    job, others = await hub.submit(tenant, WAITING), await hub.submit(other, WAITING)
    async with AsyncExitStack() as stack:
        lines = []
        for _ in range(2):
            head = {"Authorization": f"Bearer {hub.tokens[tenant]}"}
            stream = await stack.enter_async_context(hub.http.stream("GET", f"/v1/jobs/{job}/events", headers=head))
            # Kept: an iterator that is dropped closes its stream.
            lines.append(stream.aiter_lines())
            await anext(lines[-1])
        refused(await hub.ask("GET", f"/v1/jobs/{job}/events", tenant), 429, "too_many_followers", tenant, "limit is 2")
        head = {"Authorization": f"Bearer {hub.tokens[other]}"}
        async with hub.http.stream("GET", f"/v1/jobs/{others}/events", headers=head) as stream:
            assert stream.status_code == 200


async def test_a_tenants_flood_at_the_bus_door_waits_while_others_pass_and_none_of_it_is_lost(hub: Hub) -> None:
    flooder = await hub.new_tenant(limits=TenantLimits(submissions_per_second=20, submission_burst=10))
    other = await hub.new_tenant()
    flood, calm = [await hub.connect(service_party(tenant), tenant=tenant) for tenant in (flooder, other)]
    for number in range(60):
        await flood.publish(Submit(flooder), orjson.dumps({"spec": WAITING}), headers=event(number))
    await calm.publish(Submit(other), orjson.dumps({"spec": WAITING}), headers=event(1))
    await eventually(lambda: jobs_of(hub, other), lambda count: count == 1, LIMIT_SECONDS)
    assert await jobs_of(hub, flooder) < 60
    await eventually(lambda: jobs_of(hub, flooder), lambda count: count == 60, LIMIT_SECONDS)


async def test_a_tenants_backlog_at_the_bus_door_is_bounded_and_another_can_still_publish(hub: Hub) -> None:
    full, other = await hub.new_tenant(), await hub.new_tenant()
    filling, calm = [await hub.connect(service_party(tenant), tenant=tenant) for tenant in (full, other)]
    await hub.stop("gateway")
    event_bytes = orjson.dumps({"spec": WAITING})
    at_once = asyncio.Semaphore(200)

    async def publish(number: int) -> bool:
        async with at_once:
            try:
                await filling.publish(Submit(full), event_bytes, headers=event(number))
            except Unavailable:
                return False
            return True

    taken = await asyncio.gather(*[publish(number) for number in range(SUBMIT_BACKLOG + 5)])
    assert taken.count(True) == SUBMIT_BACKLOG
    await calm.publish(Submit(other), event_bytes, headers=event(1))
    await hub.spy.purge(SUBMIT, str(Submit(full)))
    await hub.start_gateway()
    await eventually(lambda: jobs_of(hub, other), lambda count: count == 1, LIMIT_SECONDS)


def event(number: int) -> dict[str, str]:
    return {"ce-id": str(number), "ce-source": "test", "ce-type": JobSubmitted.event_type()}


async def jobs_of(hub: Hub, tenant: str) -> int:
    return len((await hub.ask("GET", "/v1/jobs?limit=200", tenant)).json()["jobs"])


async def refused_on_the_bus(hub: Hub, tenant: str, spec: dict[str, Any]) -> SubmissionRefused:
    service = await hub.connect(service_party(tenant), tenant=tenant)
    async with service.listen(f"feed.{tenant}.*.0.submission-refused") as feed, asyncio.timeout(LIMIT_SECONDS):
        await service.publish(Submit(tenant), orjson.dumps({"spec": spec}), headers=event(1))
        return decode(SubmissionRefused, (await anext(feed)).data)
