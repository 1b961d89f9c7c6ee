"""How fast a step's output becomes durable: `python -m bench.log_path`.

On a running `overspill up`: a step copies a file of log lines to its stdout; entrypoint, step-ctl, bus, log collector
and object store, with the disk below them, share this machine's cores. The clock runs from the step's start until the
attempt's directory is deleted, which waits until every byte is durable. Beside it, in the same run: the same bytes put
bare into the same object store, and 64 KiB messages published bare into the same stream's server.
"""

import argparse
import asyncio
import random
import time
from pathlib import Path

import httpx
import uvloop

from bench.measuring import CpuClock, Gate, Row, name_of, noted
from bench.raw_nats import RawNats
from bench.running import Platform, ended, unix_seconds, up
from bench.stack import scratch
from shared.adapters.identity import Identity
from shared.adapters.s3_objects import S3Objects
from shared.flow import LogTo
from shared.parties import attempt_party
from shared.settings import ObjectSettings

MB = 1_000_000
PART_BYTES = 4 * 2**20
CHUNK_BYTES = 65_536
WINDOW = 24
FILE_BYTES = 16 * 2**20


def log_lines(path: Path) -> None:
    """As a build writes them: lines that differ, compressible about as such are."""
    source = random.Random(1)
    with path.open("w") as file:
        size = 0
        while size < FILE_BYTES:
            line = (
                f"[{source.random() * 1e4:10.3f}] compiling mod_{source.randrange(10**6)}/{source.randrange(10**4)}.c"
                f" -> {source.getrandbits(64):016x}.o ({source.randrange(10**6)} bytes)\n"
            )
            size += file.write(line)


async def through_the_platform(
    platform: Platform, client: httpx.AsyncClient, file: Path, copies: int, jobs: int
) -> tuple[float, dict[str, float]]:
    """Seconds from the first step's start until the last attempt is durable and gone; CPU seconds by process."""
    attempts = platform.data / "agent" / "attempts"
    spec = {
        "name": "loud",
        "machineType": "nano",
        "steps": [{"name": "loud", "command": ["/bin/cat", *[str(file)] * copies]}],
    }
    clock = CpuClock({f"{name_of(pid)} ({pid})": pid for pid in platform.processes()})
    names = [(await client.post("/v1/jobs", json=spec)).raise_for_status().json()["id"] for _ in range(jobs)]
    views = [await ended(client, name) for name in names]
    while any(path for path in attempts.iterdir() if not path.name.startswith(".")):
        await asyncio.sleep(0.01)
    now = time.time()
    return now - min(unix_seconds(view["steps"][0]["started"]) for view in views), clock.seconds()


async def bare_puts(platform: Platform, data: bytes, total: int) -> float:
    """Bytes a second into the same store, eight parts at once."""
    folder = platform.data / "objects"
    where = ObjectSettings(url=platform.ready["s3_url"], credentials_file=folder / "credentials")
    slots = asyncio.Semaphore(8)
    async with S3Objects.connect(where) as objects:

        async def put(number: int) -> None:
            async with slots:
                await objects.put(f"bench/{number}", data[:PART_BYTES])

        began = time.monotonic()
        await asyncio.gather(*(put(number) for number in range(total // PART_BYTES)))
        return total / (time.monotonic() - began)


async def bare_chunks(platform: Platform, data: bytes, total: int) -> float:
    """Bytes a second into LOG of a job that nobody has, with an attempt's credential."""
    identity = Identity.load(platform.data / "identity")
    credential = identity.credential(attempt_party("default", "bare", 1), tenant="default")
    bus = await RawNats.connect(platform.ready["nats_url"], credential)
    slots = asyncio.Semaphore(WINDOW)
    answers = []
    began = time.monotonic()
    for number in range(total // CHUNK_BYTES):
        await slots.acquire()
        at = number * CHUNK_BYTES % (len(data) - CHUNK_BYTES)
        answer = bus.ask(str(LogTo("default", "bare", 1, number % 200)), data[at : at + CHUNK_BYTES], {})
        answer.add_done_callback(lambda _: slots.release())
        answers.append(answer)
    await asyncio.gather(*answers)
    seconds = time.monotonic() - began
    bus.close()
    return total / seconds


async def main(options: argparse.Namespace) -> None:
    with scratch() as directory, noted("log_path") as rows:
        file = directory / "lines"
        log_lines(file)
        data = file.read_bytes()
        copies = max(1, options.megabytes * MB // len(data))
        total = copies * len(data)
        async with up(directory) as platform, platform.client() as client:
            await through_the_platform(platform, client, file, 1, 1)  # warms
            one, cpu = await through_the_platform(platform, client, file, copies, 1)
            four, _ = await through_the_platform(platform, client, file, max(1, copies // 4), 4)
            puts = await bare_puts(platform, data, total)
            chunks = await bare_chunks(platform, data, total)
        rate, rate_of_four = total / one, 4 * max(1, copies // 4) * len(data) / four
        rows.append(
            Row(
                "log path, step's stdout to durable object",
                f"**{rate / MB:.0f} MB/s** (one step), {rate_of_four / MB:.0f} MB/s (4 jobs at once)",
                f"bare PUTs of 4 MiB {puts / MB:.0f} MB/s; bare 64 KiB publishes {chunks / MB:.0f} MB/s",
                f"{rate / puts:.2f} of the PUTs, {rate / chunks:.2f} of the publishes",
                "python -m bench.log_path",
                [Gate(max(rate, rate_of_four) / MB, 40, "at least", "at least 40 MB/s")],
                {
                    "megabytes": total // MB,
                    "cpu_ms_per_MB": {
                        name: round(1000 * spent / (total / MB), 2) for name, spent in cpu.items() if spent > 0.05
                    },
                },
            )
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The log path.")
    parser.add_argument("--megabytes", type=int, default=400)
    uvloop.run(main(parser.parse_args()))
