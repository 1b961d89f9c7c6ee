"""100,000 jobs in history: a page of the list, and a restart of the platform: `python -m bench.history`.

The streams are filled as if the jobs had run, all facts of each; then `overspill up` comes up on them three times: once
without a projection, which it makes from the streams, and twice as after any stop. Beside the page: the same SQL on
the same file. Beside the restart: nats-server alone opening the same streams.
"""

import argparse
import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
import uvloop

from bench.measuring import Gate, Row, Samples, ms, noted
from bench.raw_nats import RawNats
from bench.running import Platform, up
from bench.stack import Stack, opened, scratch
from overspill.hub_seed import CLUSTER, TENANT
from services.gateway.projection.reading import Cursor, Filters, list_query
from shared.adapters.nats_permissions import PROVISIONER
from shared.facts import AttemptAccepted, AttemptEnded, AttemptStarted, JobRecord, Placement, StepEnded, StepStarted
from shared.flow import DONE, EVT, JOBS, Done, Evt, Job
from shared.ids import job_id_from_key
from shared.lifecycle import JobState, Reason
from shared.needs import GIB, Needs
from shared.parties import Party
from shared.wire import encode

T = TypeVar("T")

FILLER = Party("filler", "hub", publishes=(Job.filter(), Done.filter(), Evt.filter()), purges=(JOBS,))
SPREAD_SECONDS = 6 * 86_400
CONFIRM_EVERY = 100
PATIENCE_SECONDS = 900.0


def story(job: str, created_ns: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Every message of a job that succeeded at once, in order."""
    second = 1_000_000_000
    head: dict[str, Any] = {"tenant": TENANT, "job": job, "epoch": 1, "at_unix_ns": created_ns + second}
    record = JobRecord(
        tenant=TENANT,
        job=job,
        name=f"build {number % 50}",
        state=JobState.QUEUED,
        created_unix_ns=created_ns,
        content_hash="0" * 64,
        needs=Needs(cpu_millis=1000, memory_bytes=GIB, disk_bytes=GIB),
        timeout_seconds=600.0,
        step_count=1,
        submitted_by="bench",
        labels={"branch": f"b{number % 200}"},
        write_id="bench",
    )
    placement = Placement(cluster=CLUSTER, pool="local", target="m1")
    placed = record.model_copy(
        update={"state": JobState.PLACED, "epoch": 1, "placement": placement, "placed_unix_ns": created_ns + second}
    )
    over = placed.model_copy(
        update={
            "state": JobState.SUCCEEDED, "ended_unix_ns": created_ns + 5 * second, "exit_code": 0,
            "reason": Reason.ALL_STEPS_OK,
        }
    )  # fmt: skip
    step: dict[str, Any] = head | {"step": 1, "name": "build"}
    facts = (
        AttemptAccepted(**head, cluster=CLUSTER, machine="m1"),
        AttemptStarted(**head, machine="m1"),
        StepStarted(**step),
        StepEnded(**step, state="exited", verdict="ok", exit_code=0, tries=1, started_unix_ns=1, ended_unix_ns=2),
        AttemptEnded(**head, outcome="succeeded", reason=Reason.ALL_STEPS_OK, exit_code=0, step=1),
    )
    at = str(Job(TENANT, job))
    yield at, encode(record)
    yield at, encode(placed)
    for fact in facts:
        yield str(Evt(TENANT, job, 1, fact.token())), encode(fact)
    yield at, encode(over)
    yield str(Done(TENANT, job)), encode(over)


async def fill(stack: Stack, jobs: int) -> None:
    """Publish without waiting for each; every so often a job's messages are confirmed, and with them those before."""
    bus = await RawNats.connect(stack.nats_url, stack.identity.credential(FILLER))
    plain = "a" * 26
    template = list(story(plain, 1_234_567_890_123_456_789, 7))
    newest = time.time_ns()
    for number in range(jobs):
        job = job_id_from_key(TENANT, f"history-{number}")
        created = newest - (jobs - number) * SPREAD_SECONDS * 1_000_000_000 // jobs
        last_of_all = number == jobs - 1
        for subject, data in template:
            theirs = data.replace(b'"build 7"', b'"build %d"' % (number % 50))
            theirs = theirs.replace(b'"b7"', b'"b%d"' % (number % 200)).replace(
                b"1234567890", str(created)[:10].encode()
            )
            theirs = theirs.replace(plain.encode(), job.encode())
            headers = {"ce-id": f"{job}-{len(theirs)}"}
            if number % CONFIRM_EVERY == 0 or last_of_all:
                await bus.store(subject.replace(plain, job), theirs, headers)
            else:
                bus.publish(subject.replace(plain, job), theirs, headers)
    provisioner = await RawNats.connect(stack.nats_url, stack.identity.credential(PROVISIONER))
    await _until_counted(provisioner, EVT.name, jobs * 8)
    await _until_counted(provisioner, DONE.name, jobs)
    await provisioner.store(f"$JS.API.STREAM.PURGE.{JOBS.name}", orjson.dumps({"filter": Job.filter()}), {})
    provisioner.close()
    bus.close()


async def _until_counted(bus: RawNats, stream: str, count: int) -> None:
    """The copies of records come a moment later."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await bus.store(f"$JS.API.STREAM.INFO.{stream}", b"", {}))["state"]["messages"] < count:
            await asyncio.sleep(0.1)


async def pages(client: httpx.AsyncClient, projection: Path, count: int) -> tuple[Samples, Samples]:
    """Seconds of a page over HTTP, and of the same SQL alone: the newest, deep ones, filtered ones, in turn."""
    connection = sqlite3.connect(f"file:{projection}?mode=ro", uri=True)
    deep = connection.execute("SELECT created_ns, job FROM jobs ORDER BY created_ns LIMIT 1 OFFSET 50000").fetchone()
    cursor = Cursor(*deep) if deep else None
    kinds: list[tuple[str, Filters]] = [
        ("/v1/jobs", Filters(limit=51)),
        ("/v1/jobs?state=succeeded", Filters(states=("succeeded",), limit=51)),
        ("/v1/jobs?label=branch%3Db17", Filters(labels=(("branch", "b17"),), limit=51)),
        ("/v1/jobs?name=build%2013", Filters(name="build 13", limit=51)),
    ]
    if cursor is not None:
        kinds.append((f"/v1/jobs?cursor={cursor.encode()}", Filters(after=cursor, limit=51)))
    over_http, plain = [], []
    for number in range(count):
        path, filters = kinds[number % len(kinds)]
        began = time.monotonic()
        (await client.get(path)).raise_for_status()
        over_http.append(time.monotonic() - began)
        sql, values = list_query(TENANT, filters)
        began = time.monotonic()
        connection.execute(sql, values).fetchall()
        plain.append(time.monotonic() - began)
    connection.close()
    return Samples.of(over_http), Samples.of(plain)


async def came_up(home: Path, then: Callable[[Platform], Coroutine[Any, Any, T]]) -> tuple[float, T]:
    began = time.monotonic()
    async with up(home) as platform:
        return time.monotonic() - began, await then(platform)


async def main(options: argparse.Namespace) -> None:
    with scratch() as home, noted("history") as rows:
        data = home / "data"
        data.mkdir()
        async with opened(data, "bus", store=False) as stack:
            began = time.monotonic()
            await fill(stack, options.jobs)
            filled = time.monotonic() - began
        print(f"streams filled in {filled:.0f} s", flush=True)
        began = time.monotonic()
        async with opened(data, "bus", store=False):
            alone = time.monotonic() - began

        async def look(platform: Platform) -> tuple[Samples, Samples]:
            async with platform.client() as client:
                listed = (await client.get("/v1/jobs")).raise_for_status().json()["jobs"]
                assert len(listed) == min(50, options.jobs), "the history is not shown"
                return await pages(client, data / "hub" / "gateway" / "projection.sqlite", options.pages)

        first, (page, plain) = await came_up(home, look)
        print(f"projection made anew in {first:.0f} s", flush=True)
        again = []
        for _ in range(options.restarts):
            seconds, (page, plain) = await came_up(home, look)
            again.append(seconds)
        slowest = max(again, default=first)
        rows.append(
            Row(
                f"{options.jobs:,} jobs in history: a page of 50",
                f"p50 {ms(page.p50)} p99 **{ms(page.p99)}**",
                f"its SQL alone {ms(plain.p50)} / {ms(plain.p99)}",
                f"p50 {page.p50 / plain.p50:.1f}x the SQL",
                "python -m bench.history",
                [Gate(page.p99 * 1000, 20, "at most", "p99 at most 20 ms")],
                {"pages": len(page.values)},
            )
        )
        rows.append(
            Row(
                f"{options.jobs:,} jobs in history: `overspill up` to ready",
                f"**{slowest:.1f} s**; {first:.1f} s when the projection is made anew",
                f"nats-server alone on the same streams {alone:.1f} s",
                f"{slowest / alone:.1f}x the server's",
                "python -m bench.history",
                [Gate(slowest, 10, "at most", "at most 10 s")],
                {"seconds to fill the streams": round(filled, 1)},
            )
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A long history.")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--restarts", type=int, default=2)
    uvloop.run(main(parser.parse_args()))
