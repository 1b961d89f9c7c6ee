"""Two rounds of `make chaos`: kill -9 at named points and at random times while jobs run."""

import subprocess
import sys

ROUNDS_SECONDS = 600


def test_jobs_end_truthfully_while_every_part_of_the_platform_is_killed() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--first", "0", "--seeds", "2", "--jobs", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ROUNDS_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
