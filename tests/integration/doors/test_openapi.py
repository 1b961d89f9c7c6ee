"""The API does what its OpenAPI document says, to whatever is sent: schemathesis against the whole hub."""

import asyncio
import os
import sys
from pathlib import Path

import httpx

from shared.tenancy import api_key_id
from tests.integration.doors.hub import Hub

EXAMPLES = 10
LEFT_OUT = ("positive_data_acceptance",)
"""A spec may fit the schema and still contradict itself; then it is refused with a reason."""
REQUEST_SECONDS, LIMIT_SECONDS = 30, 300
RUN_SECONDS = 25
"""Schemathesis divides them among what it does."""


async def schemathesis(hub: Hub, token: str, home: Path, jobs: list[str], doomed: list[str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{hub.url}/v1/openapi.json",
        *("--header", f"Authorization:Bearer {token}", "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT)),
        *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-shrink", "--continue-on-failure"),
        *("--request-timeout", str(REQUEST_SECONDS), "--max-time", str(RUN_SECONDS), "--no-color"),
        *("--max-redirects", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.integration.doors.schemathesis_hooks",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "OVERSPILL_TEST_JOBS": " ".join(jobs),
            "OVERSPILL_TEST_DOOMED": " ".join(doomed),
            "OVERSPILL_TEST_KEY": api_key_id(token) or "",
        },
    )
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace")


async def test_the_api_keeps_what_its_document_says(hub: Hub, tmp_path: Path) -> None:
    tenant = await hub.new_tenant()
    jobs = [await hub.run_job(tenant) for _ in range(6)]
    code, said = await schemathesis(hub, hub.tokens[tenant], tmp_path, jobs[:3], jobs[3:])
    assert code == 0, said
    await hub.run_job(tenant)


async def test_whatever_can_be_got_can_be_asked_for_its_head(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    job = await hub.run_job(tenant)
    for path in (
        "/v1/jobs",
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/logs?step=1",
        f"/v1/jobs/{job}/logs?follow=true",
        f"/v1/jobs/{job}/events",
        "/v1/jobs/nothing",
        "/v1/me",
        "/healthz",
        "/readyz",
        "/v1/openapi.json",
    ):
        head, whole = [await hub.ask(method, path, tenant) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
    waiting = await hub.submit(tenant, {"runs-on": ["nowhere"], "steps": [{"run": "true"}]})
    endless = await hub.ask("HEAD", f"/v1/jobs/{waiting}/events", tenant)
    assert endless.headers["content-type"].startswith("text/event-stream")


async def test_a_refused_method_is_told_which_there_are(hub: Hub) -> None:
    tenant = await hub.new_tenant()
    for path, methods in (
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/x", "DELETE, GET, HEAD"),
        ("/v1/me", "GET, HEAD"),
    ):
        answer: httpx.Response = await hub.ask("PATCH", path, tenant)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert answer.json()["code"] == "method_not_allowed"
