"""Events and logs as they come."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from shared.facts import ArtifactStored, AttemptAccepted, AttemptEnded, StepEnded, StepStarted
from shared.facts.attempt import Spans
from shared.facts.log import LogChunk
from shared.flow import LogTo
from shared.lifecycle import Reason
from shared.parties import CACHE, SCHEDULER, attempt_party
from shared.requests import Presigned, WhyTold
from shared.wire import encode
from tests.integration.gateway.conftest import SPEC, Gateway, Logs, eventually

WAIT_SECONDS = 20
PLACED = {
    "state": "placed",
    "epoch": 1,
    "placement": {"cluster": "c1", "pool": "local", "target": "m1"},
    "placed_unix_ns": 2,
}
ENDED = {"state": "succeeded", "reason": "all_steps_ok", "exit_code": 0, "ended_unix_ns": 3}


class Stream:
    """One open SSE response."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        event: dict[str, Any] = {}
        async with asyncio.timeout(WAIT_SECONDS):
            async for line in self._lines:
                if not line:
                    if event:
                        yield event
                    event = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    event[name] = json.loads(value) if name == "data" else value

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        async for event in self.events():
            if kind is None or event["event"] == kind:
                return event
        raise AssertionError("the stream ended")


def open_stream(gateway: Gateway, path: str, last: str | None = None) -> Any:
    headers = gateway.auth() | ({"Last-Event-ID": last} if last else {}) | {"Accept": "text/event-stream"}
    return gateway.http.stream("GET", path, headers=headers)


async def run_attempt(gateway: Gateway, job: str) -> None:
    common = {"tenant": gateway.tenant, "job": job, "epoch": 1, "at_unix_ns": 5}
    for step, name in ((1, "greet"), (2, "true")):
        await gateway.tell(job, 1, StepStarted(**common, step=step, name=name))
        await gateway.tell(
            job, 1, StepEnded(**common, step=step, name=name, state="exited", verdict="ok", exit_code=0, tries=1)
        )
    spans = Spans(prepare_seconds=0.1, handover_seconds=0.01, user_seconds=2.0, finish_seconds=0.2)
    await gateway.tell(
        job, 1, AttemptEnded(**common, outcome="succeeded", reason=Reason.ALL_STEPS_OK, exit_code=0, spans=spans)
    )


async def test_events_run_from_the_first_to_the_verdict_and_end(gateway: Gateway) -> None:
    job = await gateway.submit()
    async with open_stream(gateway, f"/v1/jobs/{job}/events") as response:
        stream = Stream(response)
        first = await stream.next()
        assert (first["event"], first["data"]["data"]["state"]) == ("overspill.job.recorded.v1", "queued")
        assert "write_id" not in first["data"]["data"]
        await gateway.move(job, **PLACED)
        await run_attempt(gateway, job)
        await gateway.move(job, **ENDED)
        seen = [event async for event in stream.events()]
    kinds = [event["event"] for event in seen]
    assert kinds[-1] == "end"
    assert seen[-1]["data"]["state"] == "succeeded"
    assert kinds.count("overspill.step.ended.v1") == 2
    ids = [int(event["id"]) for event in seen if "id" in event]
    assert ids == sorted(set(ids))
    async with open_stream(gateway, f"/v1/jobs/{job}/events", last=str(ids[1])) as response:
        again = [event async for event in Stream(response).events()]
    assert again == seen[2:]
    page = (await gateway.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"})).json()
    assert page["complete"] is True
    assert [event["id"] for event in page["events"]][2:] == ids[1:]
    assert (await gateway.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "x"})).status_code == 400


async def test_a_jobs_picture_tells_steps_attempts_and_where_time_went(gateway: Gateway, hub_bus: Any) -> None:
    from shared.flow import Evt
    from shared.parties import machine_party

    job = await gateway.submit()
    await gateway.move(job, **PLACED)
    machine = await hub_bus(machine_party("c1", "m1"), cluster="c1")
    accepted = AttemptAccepted(tenant=gateway.tenant, job=job, epoch=1, at_unix_ns=4, cluster="c1", machine="m1")
    await machine.publish(Evt(gateway.tenant, job, 1, accepted.token()), encode(accepted))
    answer = await eventually(
        lambda: gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.json()["phase"] == "accepted"
    )
    assert [step["state"] for step in answer.json()["steps"]] == ["pending", "pending"]
    await run_attempt(gateway, job)
    artifact = ArtifactStored(
        tenant=gateway.tenant, job=job, epoch=1, at_unix_ns=4, name="räder/1", key="k", size_bytes=1, sha256="", files=1
    )
    await gateway.tell(job, 1, artifact)
    await gateway.move(job, **ENDED)
    body = (
        await eventually(lambda: gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.json()["state"] == "succeeded")
    ).json()
    assert [(step["state"], step["exit_code"]) for step in body["steps"]] == [("exited", 0), ("exited", 0)]
    assert body["times"]["user_seconds"] == 2.0
    assert body["attempts"][0]["machine"] == "m1"
    assert (await gateway.get(f"/v1/jobs/{job}/why")).json()["code"] == "all_steps_ok"

    async def address(_: object) -> tuple[bytes, dict[str, str]]:
        return encode(Presigned(method="GET", url="http://s3/k", key="k", expires_unix=9)), {}

    cache = await hub_bus(CACHE)
    async with cache.serve("svc.cache.download", address):
        path = body["artifacts"][0]["url"]
        assert (await gateway.get(path, follow_redirects=False)).headers["location"] == "http://s3/k"
        told = await gateway.get(path, headers={"Accept": "application/json"})
        assert told.json()["url"] == "http://s3/k"


async def test_why_a_job_waits_is_the_schedulers_word(gateway: Gateway, hub_bus: Any) -> None:
    job = await gateway.submit()

    async def why(_: object) -> tuple[bytes, dict[str, str]]:
        return encode(WhyTold(state="queued", code="no_capacity", detail="wait", position=3)), {}

    scheduler = await hub_bus(SCHEDULER)
    async with scheduler.serve("svc.scheduler.why", why):
        assert (await gateway.get(f"/v1/jobs/{job}/why")).json()["position"] == 3


class Runner:
    """Publishes chunks as step-ctl does, and lets the log-collector know them."""

    def __init__(self, gateway: Gateway, logs: Logs, job: str, bus: Any) -> None:
        self.gateway, self.logs, self.job, self.bus = gateway, logs, job, bus

    async def write(self, step: int, data: bytes, *, live: bool = True, last: bool = False) -> None:
        key = (self.job, 1, step)
        before = self.logs.logs.get(key, b"")
        self.logs.logs[key] = before + data
        if last:
            self.logs.complete.add(key)
        total = len(before) + len(data) if last else None
        chunk = LogChunk(len(before), data, ((len(before), 1_700_000_000_000),), total, "" if last else None)
        if live:
            await self.bus.publish(LogTo(self.gateway.tenant, self.job, 1, step), data, headers=chunk.headers())


async def runner_of(gateway: Gateway, logs: Logs, hub_bus: Any) -> Runner:
    job = await gateway.submit()
    await gateway.move(job, **PLACED)
    await eventually(lambda: gateway.get(f"/v1/jobs/{job}"), lambda answer: answer.json()["epoch"] == 1)
    bus = await hub_bus(attempt_party(gateway.tenant, job, 1), tenant=gateway.tenant)
    return Runner(gateway, logs, job, bus)


def bytes_of(event: dict[str, Any]) -> bytes:
    data = event["data"]
    return base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()


async def test_a_followed_log_is_whole_though_chunks_were_missed(gateway: Gateway, logs: Logs, hub_bus: Any) -> None:
    runner = await runner_of(gateway, logs, hub_bus)
    await runner.write(1, b"before\n", live=False)
    async with open_stream(gateway, f"/v1/jobs/{runner.job}/logs?follow=true&step=1") as response:
        stream = Stream(response)
        assert bytes_of(await stream.next("log")) == b"before\n"
        await runner.write(1, b"live\xff\n")
        event = await stream.next("log")
        assert (bytes_of(event), event["data"]["offset"]) == (b"live\xff\n", 7)
        await runner.write(1, b"missed\n", live=False)
        await runner.write(2, b"another step\n")
        await runner.write(1, b"last\n", last=True)
        rest = [event async for event in stream.events()]
    assert b"".join(bytes_of(event) for event in rest if event["event"] == "log") == b"missed\nlast\n"
    assert rest[-1]["event"] == "end"
    async with open_stream(gateway, f"/v1/jobs/{runner.job}/logs?follow=true&step=1", last=event["id"]) as response:
        again = [event async for event in Stream(response).events()]
    assert b"".join(bytes_of(event) for event in again if event["event"] == "log") == b"missed\nlast\n"


async def test_many_followers_of_a_whole_job_all_read_everything_and_end_with_it(
    gateway: Gateway, logs: Logs, hub_bus: Any
) -> None:
    runner = await runner_of(gateway, logs, hub_bus)

    async def follow() -> dict[int, bytes]:
        seen: dict[int, bytes] = {}
        async with open_stream(gateway, f"/v1/jobs/{runner.job}/logs?follow=true") as response:
            async for event in Stream(response).events():
                if event["event"] == "log":
                    step = event["data"]["step"]
                    seen[step] = seen.get(step, b"") + bytes_of(event)
        return seen

    subscriptions = len(gateway.bus.client._subs)
    followers = [asyncio.create_task(follow()) for _ in range(10)]
    for number in range(30):
        await runner.write(1 + number % 2, b"line %d\n" % number, live=number % 7 != 0)
        if number == 20:
            assert len(gateway.bus.client._subs) <= subscriptions + 1
    await runner.write(0, b"platform\n", live=False)
    await gateway.move(runner.job, **ENDED)
    for seen in await asyncio.gather(*followers):
        assert seen == {step: logs.logs[(runner.job, 1, step)] for step in (0, 1, 2)}


async def test_a_follower_of_a_queued_job_waits_for_its_attempt(gateway: Gateway, logs: Logs) -> None:
    job = await gateway.submit()
    async with open_stream(gateway, f"/v1/jobs/{job}/logs?follow=true") as response:
        stream = Stream(response)
        await gateway.move(job, **PLACED)
        assert (await stream.next())["data"] == {"epoch": 1}
        await gateway.move(job, **ENDED)
        assert (await stream.next("end"))["data"]["state"] == "succeeded"


async def test_ranges_count_the_raw_bytes(gateway: Gateway, logs: Logs, hub_bus: Any) -> None:
    runner = await runner_of(gateway, logs, hub_bus)
    whole = bytes(range(256)) * 5000
    logs.logs[(runner.job, 1, 1)] = whole
    path = f"/v1/jobs/{runner.job}/logs?step=1"
    for header, wanted in (
        ("bytes=0-0", whole[:1]),
        ("bytes=10-", whole[10:]),
        ("bytes=-5", whole[-5:]),
        ("bytes=600000-1199999", whole[600_000:1_200_000]),
        ("bytes=5-99999999999", whole[5:]),
    ):
        answer = await gateway.get(path, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, wanted)
    assert answer.headers["content-range"] == f"bytes 5-{len(whole) - 1}/*"
    for header in ("bytes=x-y", "lines=1-2", "bytes=5-2", "bytes=0-1,3-4"):
        answer = await gateway.get(path, headers={"Range": header})
        assert (answer.status_code, answer.content) == (200, whole)
    answer = await gateway.get(path, headers={"Range": "bytes=1280000-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1280000")
    assert (await gateway.get(path)).content == whole


async def test_the_whole_jobs_log_is_platform_first_then_steps_in_order(
    gateway: Gateway, logs: Logs, hub_bus: Any
) -> None:
    runner = await runner_of(gateway, logs, hub_bus)
    for step, data in ((2, b"two\n"), (0, b"zero\n"), (1, b"one\nuno\n")):
        logs.logs[(runner.job, 1, step)] = data
        logs.times[(runner.job, 1, step)] = [(0, 1_700_000_000_000 + step)]
    path = f"/v1/jobs/{runner.job}/logs"
    assert (await gateway.get(path)).text == "zero\none\nuno\ntwo\n"
    assert (await gateway.get(path, params={"timestamps": "true", "step": 1})).text == (
        "2023-11-14T22:13:20.001Z one\n2023-11-14T22:13:20.001Z uno\n"
    )
    assert (await gateway.get(path, params={"since": "1700000000.002"})).text == "two\n"
    assert (await gateway.get(path, params={"step": 3})).status_code == 404


async def test_without_a_log_collector_the_answer_is_a_503(gateway: Gateway) -> None:
    job = await gateway.submit(SPEC)
    answer = await gateway.get(f"/v1/jobs/{job}/logs", params={"step": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
