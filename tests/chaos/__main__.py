"""`python -m tests.chaos --seeds 50`: kill -9 at every named point and at random times; see README.md."""

import argparse
import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runner.entrypoint import build
from shared.crash_points import NAMES
from shared.ids import random_id
from shared.run import configure_logging
from tests.chaos.customers import Customer
from tests.chaos.plan import plan
from tests.chaos.processes import belonging_to
from tests.chaos.report import line, story, table
from tests.chaos.rounds import Outcome, Round
from tests.chaos.town import town

GUARDED = "OVERSPILL_CHAOS_GUARDED"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seeds", type=int, default=50, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=30, help="a seed")
    arguments = parser.parse_args(words)
    if GUARDED not in os.environ:
        return _under_guard()
    configure_logging("chaos", logging.ERROR)
    return asyncio.run(_run(arguments))


def say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def _under_guard() -> int:
    """Once more, below a guard that leaves nothing behind, however any of us ends."""
    read_end, write_end = os.pipe()
    guard = [str(build.binary()), "guard", "--lifeline", str(read_end), "--grace", "60000", "--"]
    command = [*guard, sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
    try:
        return subprocess.run(command, check=False, pass_fds=(read_end,), env=os.environ | {GUARDED: "1"}).returncode
    finally:
        os.close(write_end)


async def _run(arguments: argparse.Namespace) -> int:
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    outcomes: list[Outcome] = []
    async with town(home) as at, at.watcher() as bus, at.service() as service, at.client() as client:
        customer = Customer(client, service, bus)
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            runs = home / f"runs-{seed}"
            made = plan(seed, arguments.jobs, runs)
            outcome = await Round(at, bus, customer, made, runs, f"{seed}-{random_id()[:8]}").play()
            outcomes.append(outcome)
            say(line(outcome))
            if outcome.wrong:
                say(story(outcome, home))
    left = belonging_to(home)
    say(table(outcomes))
    wrong = any(outcome.wrong for outcome in outcomes)
    if left:
        say("left running:", *left.values())
    missed = _never_reached(outcomes)
    if missed:
        say("never reached:", *sorted(missed))
    failed = wrong or bool(left) or bool(missed)
    if not failed:
        shutil.rmtree(home)
    return int(failed)


def _never_reached(outcomes: Sequence[Outcome]) -> frozenset[str]:
    """Points that never killed, when the seeds planned for all of them."""
    planned = {name for outcome in outcomes for name, _ in outcome.plan.points}
    return NAMES - {name for outcome in outcomes for name in outcome.fired} if planned >= NAMES else frozenset()


if __name__ == "__main__":
    sys.exit(main())
