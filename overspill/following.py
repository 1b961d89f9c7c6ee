"""A job from its first fact to its verdict, with its log, as one stream of happenings."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from overspill.client import Client
from overspill.complaint import Complaint

LOG_AFTER_END_SECONDS = 30.0
"""How long the log may take to be whole once the verdict is known."""
WAITING_HAPPENINGS = 64
_PREFIX, _SUFFIX_MARK = "overspill.", ".v"


@dataclass(frozen=True, slots=True)
class Told:
    """A fact. `kind` is such as `step.ended`; `view` is how the API shows it."""

    kind: str
    epoch: int
    data: dict[str, Any]
    view: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes of a step's log, directly behind the ones before."""

    epoch: int
    step: int
    offset: int
    data: bytes
    times: tuple[tuple[int, int], ...] = ()
    """(offset, unix milliseconds)"""
    missing_bytes: int = 0
    """Just before these bytes; of a piece without bytes, at the log's end."""
    missing_at_least: bool = False
    """More may be missing; nobody knows how much."""
    notice: str = ""
    """What a person reads in place of what is missing; empty: nothing is."""


Happening = Told | Wrote


def kind_of(event_type: str) -> str:
    """`step.ended` of `overspill.step.ended.v1`."""
    return event_type.removeprefix(_PREFIX).rpartition(_SUFFIX_MARK)[0] or event_type


async def facts(client: Client, job: str, after: int = 0) -> AsyncIterator[Told]:
    """Up to the verdict; lives through lost connections."""
    query = {"after": after} if after else {}
    async for event in client.follow(f"/v1/jobs/{job}/events", query):
        view = json.loads(event.data)
        if event.event != "end":
            yield Told(kind_of(view["type"]), view["epoch"], view["data"], view)


async def past_facts(client: Client, job: str) -> AsyncIterator[Told]:
    """What happened up to now."""
    after = 0
    while True:
        page = await client.events_page(job, after)
        for view in page["events"]:
            after = view["id"]
            yield Told(kind_of(view["type"]), view["epoch"], view["data"], view)
        if not page["events"]:
            return


async def log(client: Client, job: str, **query: str | int) -> AsyncIterator[Wrote]:
    """Until the job is over; lives through lost connections."""
    async for event in client.follow(f"/v1/jobs/{job}/logs", {"follow": "true", **query}):
        if event.event == "log":
            data = json.loads(event.data)
            raw = data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
            times = tuple((at, milliseconds) for at, milliseconds in data.get("times", ()))
            missing, at_least = data.get("missing_bytes", 0), data.get("missing_at_least", False)
            notice = data.get("notice", "")
            yield Wrote(data["epoch"], data["step"], data["offset"], raw, times, missing, at_least, notice)


async def happenings(client: Client, job: str) -> AsyncGenerator[Happening]:
    """Facts and log, merged as they come. Ends when both have; the log's rest gets LOG_AFTER_END_SECONDS.

    Close it (`contextlib.aclosing`). Raises Complaint.
    """
    queue: asyncio.Queue[Happening | None] = asyncio.Queue(WAITING_HAPPENINGS)
    told = asyncio.create_task(_pour(facts(client, job), queue))
    wrote = asyncio.create_task(_pour(log(client, job), queue))
    try:
        open_streams = 2
        while open_streams:
            patience = LOG_AFTER_END_SECONDS if told.done() else None
            try:
                async with asyncio.timeout(patience):
                    happening = await queue.get()
            except TimeoutError:
                return
            if happening is None:
                open_streams -= 1
                for task in (told, wrote):
                    if task.done():
                        task.result()
                continue
            yield happening
    finally:
        for task in (told, wrote):
            task.cancel()
        for task in (told, wrote):
            with contextlib.suppress(asyncio.CancelledError, Complaint):
                await task


async def _pour(source: AsyncIterator[Happening], queue: "asyncio.Queue[Happening | None]") -> None:
    try:
        async for happening in source:
            await queue.put(happening)
    finally:
        await queue.put(None)
