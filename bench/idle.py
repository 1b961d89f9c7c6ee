"""What `overspill up` costs when nobody builds: `python -m bench.idle`.

Memory is the sum over all its processes of their proportional set sizes (a page that three of them share counts once);
the sum of resident sizes, where it counts three times, is told too. Beside it, in the same run: what of that is the
bus' server and the object store, which are not ours.
"""

import argparse
import asyncio

import uvloop

from bench.measuring import CpuClock, Gate, Row, memory_bytes, name_of, noted
from bench.running import Platform, up
from bench.stack import scratch

SETTLE_SECONDS = 15
MIB = 2**20
NOT_OURS = ("nats-server", "weed")


async def measure(platform: Platform, seconds: float) -> Row:
    pids = platform.processes()
    names = {f"{name_of(pid)} ({pid})": pid for pid in pids}
    clock = CpuClock(names)
    await asyncio.sleep(seconds)
    cpu, elapsed = clock.seconds(), clock.elapsed_seconds
    memory = {name: memory_bytes(pid) for name, pid in names.items()}
    resident, proportional = (sum(sizes[kind] for sizes in memory.values()) for kind in (0, 1))
    theirs = sum(sizes[1] for name, sizes in memory.items() if name.startswith(NOT_OURS))
    used = sum(cpu.values()) / elapsed
    their_cpu = sum(spent for name, spent in cpu.items() if name.startswith(NOT_OURS)) / elapsed
    return Row(
        "`overspill up`, idle",
        f"**{proportional / MIB:.0f} MiB** (PSS; RSS {resident / MIB:.0f}), CPU **{used * 100:.1f} %** of a core",
        f"nats-server and SeaweedFS alone: {theirs / MIB:.0f} MiB, {their_cpu * 100:.1f} %",
        f"{proportional / theirs:.2f}x theirs",
        "python -m bench.idle",
        [
            Gate(proportional / MIB, 400, "at most", "at most 400 MiB in all"),
            Gate(used * 100, 3, "at most", "CPU below 3 % of a core"),
        ],
        {
            "seconds": round(elapsed),
            "by process (MiB PSS, MiB RSS, % of a core)": {
                name: (
                    round(memory[name][1] / MIB, 1),
                    round(memory[name][0] / MIB, 1),
                    round(cpu[name] / elapsed * 100, 2),
                )
                for name in names
            },
        },
    )


async def main(options: argparse.Namespace) -> None:
    with scratch() as directory, noted("idle") as rows:
        async with up(directory) as platform:
            await asyncio.sleep(options.settle)
            rows.append(await measure(platform, options.seconds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The platform at rest.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--settle", type=float, default=SETTLE_SECONDS)
    uvloop.run(main(parser.parse_args()))
