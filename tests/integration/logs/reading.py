"""The doors a log is read at: HTTP, server-sent events, the command line."""

import asyncio
import os
import sys
from typing import Any

import httpx

from tests.integration.gateway.test_streams import Stream, open_stream
from tests.integration.logs.machine import Place


async def read(place: Place, job: str, **query: Any) -> httpx.Response:
    answer = await place.gateway.get(f"/v1/jobs/{job}/logs", params=query)
    assert answer.status_code == 200, answer.text
    return answer


async def followed(place: Place, job: str, **query: Any) -> list[dict[str, Any]]:
    """The pieces up to `end`."""
    path = httpx.URL(f"/v1/jobs/{job}/logs", params={"follow": "true", **query})
    async with open_stream(place.gateway, str(path)) as response:
        return [event["data"] async for event in Stream(response).events() if event["event"] == "log"]


async def overspill(place: Place, *arguments: str) -> bytes:
    """What the command prints."""
    environment = {**os.environ, "OVERSPILL_URL": place.gateway.url, "OVERSPILL_TOKEN": place.gateway.token}
    command = (sys.executable, "-m", "overspill", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out
