"""Whatever others can write, over HTTP or on the bus, is answered or buried, and the next one is served."""

import random
import string
from typing import Any

import orjson

from shared.facts import JobSubmitted
from shared.flow import Evt, Submit
from shared.ids import random_id
from shared.parties import attempt_party, machine_party, service_party
from tests.integration.gateway.conftest import SPEC, Gateway, eventually

HEADERS = (
    "Range",
    "Last-Event-ID",
    "Idempotency-Key",
    "Accept",
    "Content-Type",
    "traceparent",
    "Origin",
    "Authorization",
)
QUERIES = ("state", "name", "label", "since", "until", "cursor", "limit", "step", "epoch", "timestamps", "after", "x")
NASTY = (
    "", "0", "-1", "1e999", "9999999999999999999999", "null", "true", "NaN", "\x00", "%00", "'; DROP TABLE jobs; --",
    "..", "/", "*", ">", "a.b", "bytes=0-", "bytes=-0", "bytes=9-1", "1:1=1", "0:", "é", "𝄞", "٣", "\u202e",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00", "a=b", "=", "x" * 3000, "application/json", "text/yaml",
)  # fmt: skip


def word(chance: random.Random) -> str:
    if chance.random() < 0.7:
        return chance.choice(NASTY)
    return "".join(chance.choice(string.printable + "äß€") for _ in range(chance.randrange(1, 30)))


async def test_no_http_request_makes_a_5xx(gateway: Gateway) -> None:
    job = await gateway.submit()
    chance = random.Random(20260101)
    paths = (
        "",
        f"/{job}",
        f"/{job}/events",
        f"/{job}/spec",
        f"/{job}/artifacts",
        f"/{job}/cancel",
        "/{}",
        "/{}/events",
    )
    for _ in range(400):
        path = "/v1/jobs" + chance.choice(paths).replace("{}", random_word_for_path(chance))
        method = chance.choice(("GET", "GET", "POST", "PUT", "DELETE", "OPTIONS"))
        headers = {
            name: word(chance).encode().replace(b"\r", b"").replace(b"\n", b"").strip()
            for name in chance.sample(HEADERS[:-1], 3)
        }
        headers = {
            name: value.replace(b"\x00", b"").replace(b"\x0b", b"").replace(b"\x0c", b"")
            for name, value in headers.items()
        }
        if path.endswith("/events"):
            headers["Accept"] = b"application/json"
        answer = await gateway.http.request(
            method,
            path,
            params={name: word(chance) for name in chance.sample(QUERIES, 2)},
            headers={**gateway.auth(), **headers},
            content=chance.choice((b"", b"{", b"[]", b"\xff", orjson.dumps(SPEC))),
        )
        assert answer.status_code < 500, (method, path, headers, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", (path, answer.text)


def random_word_for_path(chance: random.Random) -> str:
    from urllib.parse import quote

    return quote(word(chance)[:200], safe="")


async def test_every_reference_of_the_openapi_document_leads_somewhere(gateway: Gateway) -> None:
    document = (await gateway.http.get("/v1/openapi.json")).json()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)
            assert path in ("/healthz", "/readyz", "/v1/schema/job") or "401" in operation["responses"]


def frame(subject: str, headers: bytes, data: bytes) -> bytes:
    head = b"NATS/1.0\r\n" + headers + b"\r\n\r\n"
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (subject.encode(), len(head), len(head) + len(data), head, data)


async def test_no_message_on_submit_stops_the_door(gateway: Gateway, hub_bus: Any) -> None:
    service = await hub_bus(service_party(gateway.tenant), tenant=gateway.tenant)
    chance = random.Random(7)
    kind = JobSubmitted.event_type().encode()
    subject = str(Submit(gateway.tenant))
    for headers in (
        b"",
        b"\xff\xfe: \xff",
        b"ce-type: " + kind,
        b"ce-type: " + kind + b"\r\nce-id: \xff\xff\r\nce-source: \xc3\x28",
        b"ce-type: " + kind + b"\r\nce-type: " + kind + b"\r\nce-id: 1\r\nce-source: s",
        b"ce-id\r\n: x\r\n::",
        b"Nats-Expected-Last-Subject-Sequence: x",
        b"traceparent: \xff\r\nce-id: a\r\nce-source: b\r\nce-type: " + kind,
        b"Status: 100\r\nce-id: a\r\nce-source: b\r\nce-type: " + kind,
        bytes(chance.randrange(1, 255) for _ in range(200)).replace(b"\r", b"").replace(b"\n", b""),
    ):
        for data in (b"", b"{", b'{"spec": 1}', orjson.dumps({"spec": SPEC})):
            await service.client._send_command(frame(subject, headers, data))
    await service.client.flush()
    await served(gateway, service)


async def served(gateway: Gateway, service: Any) -> None:
    headers = {"ce-id": random_id(), "ce-source": "tests", "ce-type": JobSubmitted.event_type()}
    name = random_id()
    await service.publish(Submit(gateway.tenant), orjson.dumps({"spec": {**SPEC, "name": name}}), headers=headers)
    await eventually(
        lambda: gateway.get("/v1/jobs", params={"name": name}), lambda answer: len(answer.json()["jobs"]) == 1
    )


async def test_no_fact_a_runner_or_machine_can_write_stops_the_read_model(gateway: Gateway, hub_bus: Any) -> None:
    job = await gateway.submit()
    runner = await hub_bus(attempt_party(gateway.tenant, job, 1), tenant=gateway.tenant)
    machine = await hub_bus(machine_party("c1", "m-garbage"), cluster="c1")
    head = {"tenant": gateway.tenant, "job": job, "epoch": 1, "at_unix_ns": 0}
    bodies = (
        b"",
        b"{",
        b"[]",
        b"\xff" * 100,
        orjson.dumps(head),
        orjson.dumps({**head, "step": 1, "name": "\x00", "at_unix_ns": 2**63, "tries": 2**63}),
        b'{"tenant":"t1","job":"j","epoch":1,"at_unix_ns":%d,"step":1,"name":"x"}' % 10**40,
        orjson.dumps({**head, "step": 1, "name": "x", "state": "exited", "verdict": "ok", "exit_code": 2**62}),
        orjson.dumps(
            {**head, "name": "a", "key": "k", "size_bytes": 0, "sha256": "", "files": 0, "expires_unix": -(2**62)}
        ),
        orjson.dumps({**head, "tenant": "other", "job": "another", "step": 1, "name": "x", "markdown": "x" * 300_000}),
        orjson.dumps({**head, "cluster": "c1", "machine": "m1"}),
    )
    kinds = (
        "step-started",
        "step-ended",
        "step-ready",
        "step-summarised",
        "artifact-stored",
        "attempt-started",
        "nonsense",
    )
    for kind in kinds:
        for body in bodies:
            await runner.client._send_command(
                frame(str(Evt(gateway.tenant, job, 1, kind)), b"Nats-Stream-Source: JOBS 999999 x\r\nx: \xff", body)
            )
    for kind in ("attempt-accepted", "attempt-ended"):
        for body in bodies:
            await machine.client._send_command(frame(str(Evt(gateway.tenant, job, 1, kind)), b"x: y", body))
    await runner.client.flush()
    await machine.client.flush()
    await gateway.move(job, state="failed", epoch=1, ended_unix_ns=2**70, message="over")
    ended = await eventually(
        lambda: gateway.get(f"/v1/jobs/{job}"),
        lambda answer: answer.status_code != 200 or answer.json()["state"] == "failed",
    )
    assert ended.status_code == 200, ended.text
    for path in (f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/artifacts", f"/v1/jobs/{job}/summary", "/v1/jobs"):
        answer = await gateway.get(path, headers={"Accept": "application/json"})
        assert answer.status_code == 200, (path, answer.text)
