"""Jobs a second, from the door to history: `python -m bench.jobs`.

Every part is real but the steps: a submitter (this process) publishes CloudEvents at the bus door and hears the
tenant's feed; gateway, scheduler and the others run as the chart deploys them or as one hub; the machines are
`bench.edge`. So many jobs are kept under way, for each that ends another is submitted. The limit of the same run:
the same number and sizes of messages, published bare into streams of the same settings by one connection.
"""

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvloop

from bench.bare_publishes import Bare, publish_bare
from bench.measuring import CpuClock, Gate, Row, Samples, ms, noted
from bench.raw_nats import BusRefused, RawNats
from bench.stack import Shape, Stack, opened, python, scratch
from overspill.hub_seed import CLUSTER, TENANT
from shared.errors import OverspillError
from shared.ids import job_id_from_event, job_id_from_key
from shared.parties import machine_party, service_party

SOURCE = "/bench/jobs"
SPEC = {"name": "nothing", "steps": [{"name": "nothing", "run": "true"}]}
PATIENCE_SECONDS = 600.0
FINAL = (b'"state":"succeeded"', b'"state":"failed"', b'"state":"error"', b'"state":"timed_out"')


class VoidFigure(Exception):
    """What was measured is not what was meant to be."""


@dataclass
class Setting:
    """One way to run it."""

    name: str
    shape: Shape = "services"
    door: str = "bus"
    sync_always: bool = False
    sampled: float = 0.01


@dataclass
class Outcome:
    jobs: int
    seconds: float
    queue_wait: Samples
    from_submit_to_end: Samples
    cpu_ms_per_job: dict[str, float]
    limit: Bare
    edge: dict[str, Any] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds


class Submitter:
    """Keeps `under_way` jobs going until `count` were submitted; knows when each ended."""

    def __init__(self, stack: Stack, count: int, under_way: int) -> None:
        self._stack, self._count, self._under_way = stack, count, under_way
        self._began: dict[str, float] = {}
        self._next = 0
        self.took: list[float] = []
        self.bad = 0
        self.broke: BaseException | None = None
        self.over = asyncio.Event()

    async def submit_on(self, bus: RawNats, run: str) -> None:
        self._run, self._bus = run, bus
        for _ in range(min(self._under_way, self._count)):
            self._submit()

    def _submit(self) -> None:
        id_ = f"{self._run}-{self._next}"
        self._next += 1
        self._began[self._job_of(id_)] = time.monotonic()
        self._send(id_)

    def _job_of(self, id_: str) -> str:
        return job_id_from_event(TENANT, SOURCE, id_)

    def _send(self, id_: str) -> None:
        self._bus.publish(
            f"submit.{TENANT}",
            orjson.dumps({"spec": SPEC}),
            {
                "ce-specversion": "1.0",
                "ce-id": id_,
                "ce-source": SOURCE,
                "ce-type": "overspill.job.submitted.v1",
                "content-type": "application/json",
            },
        )

    def on_record(self, subject: str, data: bytes) -> None:
        if not any(word in data for word in FINAL):
            return
        began = self._began.pop(subject.split(".")[2], None)
        if began is None:
            return
        self.took.append(time.monotonic() - began)
        self.bad += FINAL[0] not in data
        if len(self.took) == self._count:
            self.over.set()
        elif self._next < self._count:
            self._submit()


class HttpSubmitter(Submitter):
    """The same through the HTTP door, over kept connections."""

    def __init__(self, stack: Stack, count: int, under_way: int, client: httpx.AsyncClient) -> None:
        super().__init__(stack, count, under_way)
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def _job_of(self, id_: str) -> str:
        # Known before the answer: the job may end before it is read.
        return job_id_from_key(TENANT, id_)

    def _send(self, id_: str) -> None:
        task = asyncio.create_task(self._post(id_))
        self._tasks.add(task)
        task.add_done_callback(self._posted)

    async def _post(self, id_: str) -> None:
        answer = await self._client.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": id_})
        answer.raise_for_status()

    def _posted(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broke = task.exception()
            self.over.set()


@asynccontextmanager
async def machines(stack: Stack, count: int) -> AsyncIterator[dict[str, Any]]:
    """Simulated ones; what is yielded holds at the end what they say they did."""
    files = [
        str(
            stack.credential_file(
                f"machine-m{number}",
                stack.identity.credential(machine_party(CLUSTER, f"m{number}"), cluster=CLUSTER),
            )
        )
        for number in range(count)
    ]
    edge = await stack.start("edge", *python("bench.edge", "--url", stack.nats_url, "--cluster", CLUSTER, *files))
    await stack.run(edge)
    told: dict[str, Any] = {}
    yield told
    edge._process.terminate()  # noqa: SLF001 - it tells what it did and ends
    told |= orjson.loads(await stack.run(edge))


async def run(setting: Setting, jobs: int, under_way: int, warm_up: int, profiles: Path | None = None) -> Outcome:
    with scratch() as directory:
        async with opened(directory, setting.shape, sync_always=setting.sync_always, sampled=setting.sampled) as stack:
            return await _measure(stack, setting, jobs, under_way, warm_up, profiles)


async def _measure(
    stack: Stack, setting: Setting, jobs: int, under_way: int, warm_up: int, profiles: Path | None
) -> Outcome:
    credential = stack.identity.credential(service_party(TENANT), tenant=TENANT)
    headers = {"Authorization": f"Bearer {stack.token}"}
    limits = httpx.Limits(max_connections=32)
    async with (
        httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30, limits=limits) as client,
        machines(stack, 8) as edge,
    ):
        bus = await RawNats.connect(stack.nats_url, credential)

        def submitter(count: int) -> Submitter:
            if setting.door == "http":
                return HttpSubmitter(stack, count, under_way, client)
            return Submitter(stack, count, under_way)

        current = submitter(warm_up)

        def heard(subject: str, data: bytes) -> None:
            current.on_record(subject, data)

        bus.subscribe(f"feed.{TENANT}.*.record", heard)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await current.submit_on(bus, "warm")
            await current.over.wait()
            await until_in_history(stack, warm_up)
            current = measured = submitter(jobs)
            clock = CpuClock(stack.processes() | {"submitter": os.getpid()})
            if profiles is not None:
                profile(stack, profiles)
            await current.submit_on(bus, "run")
            await current.over.wait()
            await until_in_history(stack, warm_up + jobs)
            seconds, cpu = clock.elapsed_seconds, clock.seconds()
        if measured.bad:
            raise VoidFigure(f"{measured.bad} of {jobs} jobs did not succeed")
        waits = await queue_waits(stack, jobs)
        limit = await publish_bare(stack, min(jobs * MESSAGES_PER_JOB, 40_000))
        bus.close()
    return Outcome(
        jobs,
        seconds,
        waits,
        Samples.of(measured.took),
        {name: 1000 * spent / jobs for name, spent in sorted(cpu.items(), key=lambda item: -item[1])},
        limit,
        edge,
    )


MESSAGES_PER_JOB = 12
"""Stored for one job: submission, spec, three records, order, accepted, started, step started and ended, ended, done.
Their copies (records in EVT, what is republished) come for nothing in the limit, as they do in the figure."""


def profile(stack: Stack, directory: Path) -> None:
    """Stacks of every Python process while it holds the interpreter, by py-spy, which has to be installed for it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, pid in stack.processes().items():
        if name in ("nats-server", "weed"):
            continue
        into = str(directory / f"{name}.txt")
        subprocess.Popen(
            ["py-spy", "record", "--gil", "-r", "250", "-d", "20", "-f", "raw", "-o", into, "-p", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


async def until_in_history(stack: Stack, count: int) -> None:
    """The projection shows so many ended jobs: what `overspill jobs` would list."""
    while True:
        connection = sqlite3.connect(f"file:{stack.projection}?mode=ro", uri=True)
        try:
            found = connection.execute("SELECT count(*) FROM jobs WHERE state = 'succeeded'").fetchone()[0]
        finally:
            connection.close()
        if found >= count:
            return
        await asyncio.sleep(0.02)


async def queue_waits(stack: Stack, newest: int) -> Samples:
    """From being admitted to being placed, by the records of the newest jobs."""
    connection = sqlite3.connect(f"file:{stack.projection}?mode=ro", uri=True)
    rows = connection.execute("SELECT record FROM jobs ORDER BY created_ns DESC LIMIT ?", (newest,)).fetchall()
    connection.close()
    records = [orjson.loads(row[0]) for row in rows]
    return Samples.of([(record["placed_unix_ns"] - record["created_unix_ns"]) / 1e9 for record in records])


def row(setting: Setting, outcome: Outcome, *, gated: bool) -> Row:
    cpu = sum(outcome.cpu_ms_per_job.values())
    limit = outcome.limit.per_second / MESSAGES_PER_JOB
    limit_cpu = outcome.limit.cpu_seconds * 1000 * MESSAGES_PER_JOB
    times_bare = cpu / max(limit_cpu, 0.001)
    gates = [
        Gate(outcome.per_second, 250, "at least", "at least 250 jobs/s"),
        Gate(outcome.queue_wait.p99, 1, "at most", "queue wait p99 at most 1 s"),
    ]
    return Row(
        f"jobs/s, {setting.name}",
        f"**{outcome.per_second:.0f}/s**, queue wait p50 {ms(outcome.queue_wait.p50)} p99 {ms(outcome.queue_wait.p99)}",
        f"as many messages published bare: {limit:.0f} jobs' worth/s, {limit_cpu:.2f} ms of CPU a job",
        f"{outcome.per_second / limit:.2f} of the limit; {cpu:.2f} ms of CPU a job, {times_bare:.1f}x the bare",
        f"python -m bench.jobs --only {setting.name.replace(', ', '-').replace(' ', '-')}",
        gates if gated else [],
        {
            "jobs": outcome.jobs,
            "submit to end p50/p99": f"{ms(outcome.from_submit_to_end.p50)} / {ms(outcome.from_submit_to_end.p99)}",
            "cpu_ms_per_job": {name: round(value, 3) for name, value in outcome.cpu_ms_per_job.items()},
            "edge": outcome.edge,
        },
    )


SETTINGS = (
    Setting("bus door"),
    Setting("one hub process", shape="hub"),
    Setting("HTTP door", door="http"),
    Setting("sync always", sync_always=True),
    Setting("full tracing", sampled=1.0),
)


async def main(options: argparse.Namespace) -> int:
    """The exit code: one setting that broke doesn't keep the others from being measured."""
    broken = 0
    with noted("jobs") as rows:
        for setting in SETTINGS:
            if options.only and setting.name.replace(" ", "-") not in options.only:
                continue
            try:
                outcome = await run(setting, options.jobs, options.under_way, options.warm_up, options.profile)
            except (VoidFigure, TimeoutError, OverspillError, BusRefused, httpx.HTTPError) as error:
                print(f"{setting.name}: {type(error).__name__} {error}", file=sys.stderr)
                broken = 1
                continue
            rows.append(row(setting, outcome, gated=setting.name == "bus door"))
    return broken


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Jobs a second.")
    parser.add_argument("--only", nargs="*", default=[], help="settings by name, spaces as dashes")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--warm-up", type=int, default=500)
    parser.add_argument("--under-way", type=int, default=128, help="jobs kept going at once")
    parser.add_argument("--profile", type=Path, help="directory for py-spy's stacks of each service")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(arguments())))
