"""What HTTP promises to whoever submits and looks."""

import asyncio

from shared.facts import SubmissionRefused
from shared.flow import EVT, JOBS, Evt, Job, Spec
from shared.tenancy import TenantLimits
from tests.integration.gateway.conftest import SPEC, Gateway, eventually


async def test_a_submitted_job_stands_on_the_bus_when_the_answer_comes(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/jobs", json=SPEC)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert (body["state"], body["phase"], body["submitted_by"]) == ("queued", "queued", "key:ci-bot")
    assert [step["name"] for step in body["steps"]] == ["greet", "true"]
    record, _ = await gateway.record(body["id"])
    assert record.state == "queued"
    assert await gateway.bus.last(JOBS, Spec(gateway.tenant, body["id"])) is not None


async def test_a_job_can_be_read_right_after_it_was_submitted(gateway: Gateway) -> None:
    for _ in range(20):
        job = await gateway.submit()
        assert (await gateway.get(f"/v1/jobs/{job}")).status_code == 200


async def test_the_same_key_and_spec_make_one_job_even_at_once(gateway: Gateway) -> None:
    key = {"Idempotency-Key": "deploy 42"}
    answers = await asyncio.gather(*(gateway.post("/v1/jobs", json=SPEC, headers=key) for _ in range(8)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]


async def test_the_same_key_with_another_spec_is_refused(gateway: Gateway) -> None:
    key = {"Idempotency-Key": "deploy-43"}
    await gateway.submit(headers=key)
    answer = await gateway.post("/v1/jobs", json={**SPEC, "name": "other"}, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_yaml_is_as_good_as_json(gateway: Gateway) -> None:
    text = "name: y\nsteps:\n  - run: |\n      echo hi\n"
    answer = await gateway.post("/v1/jobs", content=text, headers={"Content-Type": "application/yaml"})
    assert (answer.status_code, answer.json()["name"]) == (201, "y")


async def test_a_wrong_key_in_the_spec_is_refused_with_what_was_meant(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/jobs", json={"step": [{"run": "x"}]})
    assert answer.status_code == 422
    assert "did you mean `steps`" in answer.json()["detail"]


async def test_garbage_is_refused_with_a_problem_and_never_a_500(gateway: Gateway) -> None:
    big = {"steps": [{"run": "x" * 400_000}]}
    cases = [
        (await gateway.post("/v1/jobs", content="{", headers={"Content-Type": "application/json"}), 400),
        (await gateway.post("/v1/jobs", content="a: [", headers={"Content-Type": "text/yaml"}), 422),
        (await gateway.post("/v1/jobs", content="steps: []", headers={"Content-Type": "text/plain"}), 415),
        (await gateway.post("/v1/jobs", content=b"\xff\xfe\x00", headers={"Content-Type": "text/yaml"}), 422),
        (await gateway.post("/v1/jobs", json=big), 413),
        (await gateway.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "é".encode()}), 400),
        (await gateway.get("/v1/jobs", params={"cursor": "%%%"}), 400),
        (await gateway.get("/v1/jobs", params={"cursor": "MS4x"}), 200),
        (await gateway.get("/v1/jobs", params={"limit": 201}), 422),
        (await gateway.get("/v1/jobs", params={"since": "yesterday"}), 400),
        (await gateway.get("/v1/jobs", params={"since": "9999-12-31T23:59:59Z", "until": "99999999999"}), 200),
        (await gateway.get("/v1/jobs", params={"label": "nope"}), 400),
        (await gateway.get("/v1/jobs", params={"state": "done"}), 422),
        (await gateway.get("/v1/jobs/NOPE"), 404),
        (await gateway.get("/v1/jobs/../../etc/passwd"), 404),
        (await gateway.get("/v1/nothing"), 404),
        (await gateway.http.delete("/v1/jobs", headers=gateway.auth()), 405),
        (await gateway.post("/v1/sources", content="{}", headers={"Content-Type": "application/json"}), 422),
        (await gateway.get("/v1/jobs", headers={"traceparent": "garbage"}), 200),
    ]
    for answer, status in cases:
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"type", "title", "status", "detail", "code", "instance"} <= answer.json().keys()


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(gateway: Gateway) -> None:
    async def endless() -> object:
        for _ in range(1000):
            yield b"x" * 10_000

    answer = await gateway.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_a_tree_nobody_uploaded_is_refused(gateway: Gateway, hub_bus: object) -> None:
    from shared.parties import CACHE
    from shared.requests import SourceCheckTold
    from shared.wire import encode

    async def absent(_: object) -> tuple[bytes, dict[str, str]]:
        return encode(SourceCheckTold(exists=False)), {}

    cache = await hub_bus(CACHE)
    async with cache.serve("svc.cache.source-check", absent):
        answer = await gateway.post("/v1/jobs", json={**SPEC, "source": {"tree": "0" * 64}})
    assert (answer.status_code, answer.json()["code"]) == (422, "source_missing")


async def test_a_job_whose_tree_cannot_be_checked_may_be_tried_again(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/jobs", json={**SPEC, "source": {"tree": "0" * 64}})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_lists_page_through_every_job_once_newest_first(gateway: Gateway) -> None:
    made = [await gateway.submit({**SPEC, "labels": {"n": str(n % 2)}}) for n in range(7)]
    await eventually(lambda: gateway.get("/v1/jobs"), lambda answer: len(answer.json()["jobs"]) == 7)
    seen, cursor = [], None
    while True:
        page = (await gateway.get("/v1/jobs", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]
    odd = (await gateway.get("/v1/jobs", params={"label": "n=1", "state": "queued", "name": "hello"})).json()["jobs"]
    assert [job["id"] for job in odd] == made[1::2][::-1]
    assert (await gateway.get("/v1/jobs", params={"state": "failed"})).json()["jobs"] == []


async def test_cancelling_twice_is_one_fact(gateway: Gateway) -> None:
    job = await gateway.submit()
    answers = [await gateway.post(f"/v1/jobs/{job}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    facts = [m async for m in gateway.bus.read(EVT, Evt.filter(tenant=gateway.tenant, job=job, epoch=0), from_seq=1)]
    assert len(facts) == 1


async def test_cancelling_an_ended_job_changes_nothing(gateway: Gateway) -> None:
    job = await gateway.submit()
    await gateway.move(job, state="cancelled", ended_unix_ns=1)
    answer = await gateway.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 200
    assert await gateway.bus.last(EVT, Evt(gateway.tenant, job, 0, "job-cancel-requested")) is None


async def test_a_full_queue_is_refused_with_429(gateway: Gateway) -> None:
    _, token = await gateway.new_tenant(limits=TenantLimits(max_queued_jobs=2))
    codes = [(await gateway.post("/v1/jobs", token, json=SPEC)).status_code for _ in range(4)]
    assert codes == [201, 201, 429, 429]


async def test_who_asks_too_fast_is_told_when_to_come_back(gateway: Gateway) -> None:
    _, token = await gateway.new_tenant(limits=TenantLimits(requests_per_second=0.001, request_burst=1))
    answer = await gateway.get("/v1/me", token)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1


async def test_readiness_and_the_schema_need_no_credential(gateway: Gateway) -> None:
    assert (await gateway.http.get("/healthz")).text == "ok\n"
    assert (await gateway.http.get("/readyz")).json() == {"ready": True, "waiting_for": [], "warnings": []}
    schema = (await gateway.http.get("/v1/schema/job")).json()
    assert "steps" in schema["properties"]
    document = (await gateway.http.get("/v1/openapi.json")).json()
    assert "JobSpec" in document["components"]["schemas"]


async def test_clusters_are_shown_to_the_tenants_they_serve(gateway: Gateway) -> None:
    answer = await gateway.get("/v1/clusters")
    assert "c1" in [cluster["cluster"] for cluster in answer.json()["clusters"]]


def test_refusals_are_facts() -> None:
    assert SubmissionRefused.token() == "submission-refused"
    assert str(Job("a", "b")) == "job.a.b"
