"""From asking to cancel (HTTP) to the recorded verdict: `python -m bench.cancel`.

On a running `overspill up`, jobs whose step runs. One kind of step ends on SIGTERM, one ignores it and is killed after
the grace. Beside each, in the same run: the same step as a bare process, sent the same signals by this process.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import time
from typing import Any

import httpx
import uvloop

from bench.measuring import Gate, Row, Samples, ms, noted
from bench.running import unix_seconds, up
from bench.stack import scratch

GRACE_SECONDS = 5.0
"""What `overspill up` gives."""
BOUND_SECONDS = 1.0
ENDS = ["/bin/sh", "-c", "exec sleep 600"]
IGNORES = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 600; done"]


async def _running(client: httpx.AsyncClient, command: list[str]) -> str:
    spec: dict[str, Any] = {"name": "cancelled", "steps": [{"command": command}]}
    job: str = (await client.post("/v1/jobs", json=spec)).raise_for_status().json()["id"]
    while (await _view(client, job))["phase"] != "running":
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)  # the shell sets its trap
    return job


async def _view(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    view: dict[str, Any] = (await client.get(f"/v1/jobs/{job}")).raise_for_status().json()
    return view


async def cancelled(client: httpx.AsyncClient, command: list[str], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        job = await _running(client, command)
        began = time.time()
        (await client.post(f"/v1/jobs/{job}/cancel")).raise_for_status()
        while (view := await _view(client, job))["ended"] is None:
            await asyncio.sleep(0.02)
        if view["state"] != "cancelled":
            raise SystemExit(f"job {job} is {view['state']}, not cancelled: {view.get('message')}")
        taken.append(unix_seconds(view["ended"]) - began)
    return taken


async def bare(command: list[str], grace_seconds: float, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        process = subprocess.Popen(command, start_new_session=True)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # also what the shell had started
            process.wait()
        taken.append(time.monotonic() - began)
    return taken


async def main(options: argparse.Namespace) -> None:
    with scratch() as directory, noted("cancel") as rows:
        async with up(directory) as platform, platform.client() as client:
            for what, command, grace, count in (
                ("ends on SIGTERM", ENDS, 0.0, options.jobs),
                ("ignores SIGTERM", IGNORES, GRACE_SECONDS, options.deaf),
            ):
                taken = Samples.of(await cancelled(client, command, count))
                limit = Samples.of(await bare(command, GRACE_SECONDS, count))
                bound = BOUND_SECONDS + grace
                rows.append(
                    Row(
                        f"cancel (HTTP) to the verdict, a step that {what}",
                        f"p50 **{ms(taken.p50)}** worst {ms(taken.values[-1])}",
                        f"the same signals to a bare process: {ms(limit.p50)} / {ms(limit.values[-1])}",
                        f"{ms(taken.p50 - limit.p50)} more than bare",
                        "python -m bench.cancel",
                        [Gate(taken.values[-1], bound, "at most", f"at most {bound:g} s")],
                        {"samples": len(taken.values)},
                    )
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="From asking to cancel to the verdict.")
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--deaf", type=int, default=3, help="jobs whose step ignores SIGTERM")
    uvloop.run(main(parser.parse_args()))
