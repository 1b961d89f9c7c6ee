"""What the bus door promises: the same admission, answers as facts, nothing lost, nothing that stops it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from services.gateway.settings import Settings
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER
from shared.bus import Message
from shared.facts import CancelRequested, JobSubmitted, SubmissionRefused
from shared.flow import DLQ, EVT, Buried, Evt, Submit
from shared.ids import job_id_from_event, random_id
from shared.parties import service_party
from shared.wire import decode
from tests.integration.gateway.conftest import SPEC, Gateway, eventually

WAIT_SECONDS = 15


class Service:
    """A tenant's service with nothing but its own credential."""

    def __init__(self, bus: NatsBus, tenant: str) -> None:
        self.bus, self.tenant = bus, tenant

    async def send(self, data: bytes, event_id: str, kind: str = JobSubmitted.event_type(), **drop: str) -> str:
        headers = {"ce-id": event_id, "ce-source": "tests", "ce-type": kind, "ce-specversion": "1.0", **drop}
        await self.bus.publish(Submit(self.tenant), data, headers={k: v for k, v in headers.items() if v})
        return job_id_from_event(self.tenant, "tests", event_id)

    async def submit(self, spec: Any, event_id: str | None = None) -> str:
        return await self.send(orjson.dumps({"spec": spec}), event_id or random_id())


@pytest.fixture
async def service(gateway: Gateway, hub_bus: Any) -> Service:
    return Service(await hub_bus(service_party(gateway.tenant), tenant=gateway.tenant), gateway.tenant)


async def next_of(messages: AsyncIterator[Message], ending: str) -> Message:
    async with asyncio.timeout(WAIT_SECONDS):
        async for message in messages:
            if message.subject.endswith(ending):
                return message
    raise AssertionError


async def test_a_service_submits_and_reads_its_job_on_its_feed(service: Service, gateway: Gateway) -> None:
    async with service.bus.listen(f"feed.{service.tenant}.>") as feed:
        job = await service.submit(SPEC)
        message = await next_of(feed, ".record")
    assert message.subject == f"feed.{service.tenant}.{job}.record"
    answer = await gateway.get(f"/v1/jobs/{job}")
    assert (answer.json()["submitted_by"], answer.json()["submitted_via"]) == ("bus:tests", "bus")


async def test_the_same_event_twice_is_one_job(service: Service, gateway: Gateway) -> None:
    jobs = {await service.submit(SPEC, "event-1") for _ in range(5)}
    last = await service.submit({**SPEC, "name": "last"})
    await eventually(lambda: gateway.get(f"/v1/jobs/{last}"), lambda answer: answer.status_code == 200)
    assert len(jobs) == 1
    page = await eventually(lambda: gateway.get("/v1/jobs"), lambda answer: len(answer.json()["jobs"]) >= 2)
    assert len(page.json()["jobs"]) == 2


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"steps": []}, "spec_refused"),
        ({**SPEC, "namespace": "theirs"}, "limit_exceeded"),
        ("text", "spec_refused"),
        (None, "spec_refused"),
    ],
)
async def test_a_refusal_comes_back_as_a_fact(service: Service, spec: Any, code: str) -> None:
    async with service.bus.listen(f"feed.{service.tenant}.>") as feed:
        job = await service.submit(spec)
        message = await next_of(feed, ".submission-refused")
    refused = decode(SubmissionRefused, message.data)
    assert (refused.job, refused.code) == (job, code)
    assert refused.detail


async def test_an_event_that_is_no_json_is_told_to_its_publisher_too(service: Service) -> None:
    async with service.bus.listen(f"feed.{service.tenant}.>") as feed:
        await service.send(b"{", random_id())
        message = await next_of(feed, ".submission-refused")
    assert "no JSON" in decode(SubmissionRefused, message.data).detail


async def test_other_content_under_the_same_event_is_refused(service: Service) -> None:
    async with service.bus.listen(f"feed.{service.tenant}.>") as feed:
        await service.submit(SPEC, "same")
        await next_of(feed, ".record")
        await service.submit({**SPEC, "name": "other"}, "same")
        message = await next_of(feed, ".submission-refused")
    assert decode(SubmissionRefused, message.data).code == "idempotency_conflict"


async def test_poison_is_buried_with_why_and_the_door_goes_on(
    service: Service, gateway: Gateway, bus_server: Any
) -> None:
    identity = bus_server.identity
    async with bus_server.connect(identity.credential(PROVISIONER)) as all_seeing:
        begin = await all_seeing.end_seq(DLQ) + 1
        await service.send(b"{", random_id())
        await service.send(orjson.dumps({"spec": SPEC}), random_id(), kind="something.else.v1")
        await service.bus.publish(Submit(service.tenant), b"no headers at all")
        await service.send(orjson.dumps({"spec": SPEC}), "x" * 501)
        await service.send(b"[]", random_id(), kind=CancelRequested.event_type())
        job = await service.submit(SPEC)
        await eventually(lambda: gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.status_code == 200)

        async def buried() -> list[Message]:
            return [
                message
                async for message in all_seeing.read(DLQ, str(Buried("gateway", gateway.tenant)), from_seq=begin)
            ]

        found = await eventually(buried, lambda messages: len(messages) >= 5)
    assert len(found) == 5
    for message in found:
        assert message.headers["Overspill-Subject"] == str(Submit(service.tenant))
        assert message.headers["Overspill-Why"]


async def test_a_service_cancels_its_job(service: Service, gateway: Gateway) -> None:
    job = await service.submit(SPEC)
    await service.send(orjson.dumps({"job": job}), random_id(), kind=CancelRequested.event_type())
    subject = Evt(service.tenant, job, 0, CancelRequested.token())
    found = await eventually(lambda: gateway.bus.last(EVT, subject), lambda message: message is not None)
    assert decode(CancelRequested, found.data).by == "bus:tests"


def test_settings_bound_the_door() -> None:
    assert Settings().admissions_at_once > 0
