"""From the first byte of a submission over HTTP to the first instruction of its first step: `python -m bench.submit`.

On a running `overspill up` whose agent is idle. The step is a static program that notes the moment it began. Beside it,
in the same run and on the same bus: what no order of work can do without, the stored messages (spec, record, placed,
order; accepted and grant go at once, the slower counts), one HTTP request and one fork and exec, each measured bare.
A job of twenty steps that do nothing is measured on the same platform.
"""

import argparse
import asyncio
import time
from pathlib import Path

import httpx
import uvloop

from bench.handover import bare, beside
from bench.measuring import Gate, Row, Samples, ms, noted
from bench.raw_nats import RawNats
from bench.running import Platform, ended, unix_seconds, up
from bench.stack import scratch
from shared.adapters.identity import Identity
from shared.flow import Buried
from shared.parties import GATEWAY

STORED_IN_TURN = 5


async def first_steps(
    platform: Platform, client: httpx.AsyncClient, program: Path, count: int, rest_seconds: float
) -> list[float]:
    taken = []
    for number in range(count + 1):
        stamps = platform.data / f"stamp-{number}"
        spec = {"name": "first", "steps": [{"name": "first", "command": [str(program), "stamp", str(stamps)]}]}
        await asyncio.sleep(rest_seconds)
        began = time.monotonic_ns()
        job = (await client.post("/v1/jobs", json=spec)).raise_for_status().json()["id"]
        await ended(client, job)
        if number > 0:  # the first one warms
            taken.append((int(stamps.read_text().split()[0]) - began) / 1e9)
    return taken


async def twenty_steps(client: httpx.AsyncClient, rounds: int, rest_seconds: float) -> list[float]:
    taken = []
    for _ in range(rounds):
        await asyncio.sleep(rest_seconds)
        spec = {
            "name": "twenty",
            "steps": [{"name": f"step {n}", "command": ["/bin/sh", "-c", ":"]} for n in range(20)],
        }
        job = (await client.post("/v1/jobs", json=spec)).raise_for_status().json()["id"]
        steps = (await ended(client, job))["steps"]
        taken.append(unix_seconds(steps[-1]["ended"]) - unix_seconds(steps[0]["started"]))
    return taken


async def hops(platform: Platform, client: httpx.AsyncClient, directory: Path, program: Path) -> list[float]:
    """Seconds: one sample is the sum of every bare hop."""
    identity = Identity.load(platform.data / "identity")
    bus = await RawNats.connect(platform.ready["nats_url"], identity.credential(GATEWAY))
    forks = bare(directory, program, 101)
    taken = []
    for fork in forks:
        began = time.monotonic()
        (await client.get("/healthz")).raise_for_status()
        for _ in range(STORED_IN_TURN):
            await bus.store(str(Buried("gateway", "bench")), b"x" * 600, {})
        taken.append(time.monotonic() - began + fork)
    bus.close()
    return taken


async def main(options: argparse.Namespace) -> None:
    with scratch() as directory, noted("submit") as rows:
        program = beside(directory)
        async with up(directory) as platform, platform.client() as client:
            taken = Samples.of(await first_steps(platform, client, program, options.jobs, options.rest))
            limit = Samples.of(await hops(platform, client, directory, program))
            twenty = Samples.of(await twenty_steps(client, options.twenties, options.rest))
        rows.append(
            Row(
                "submit (HTTP) to first step running, idle agent",
                f"p50 **{ms(taken.p50)}** p99 **{ms(taken.p99)}**",
                f"an HTTP request, {STORED_IN_TURN} stored messages, fork+exec: {ms(limit.p50)} / {ms(limit.p99)}",
                f"p50 {taken.p50 / limit.p50:.1f}x its bare hops",
                "python -m bench.submit",
                [
                    Gate(taken.p50 * 1000, 60, "at most", "p50 at most 60 ms"),
                    Gate(taken.p99 * 1000, 200, "at most", "p99 at most 200 ms"),
                ],
                {"samples": len(taken.values)},
            )
        )
        rows.append(
            Row(
                "20 steps of `sh -c :` in a job of `overspill up`",
                f"p50 **{ms(twenty.p50)}** worst {ms(twenty.values[-1])}",
                "a 1 s poll: 10 s on average",
                f"1/{10 / twenty.p50:.0f} of the poll's",
                "python -m bench.submit",
                [Gate(twenty.values[-1] * 1000, 150, "at most", "at most 150 ms")],
            )
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="From submission to the first step.")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--twenties", type=int, default=6)
    parser.add_argument("--rest", type=float, default=2.0, help="seconds between jobs: until the agent idles again")
    uvloop.run(main(parser.parse_args()))
