"""Ten thousand histories, full of faults: the properties in `checks` and `ending` hold in every one."""

import os
import subprocess
import sys

import pytest

from tests.simulation.many import run_many
from tests.simulation.plan import plan
from tests.simulation.story import fingerprint, tell
from tests.simulation.world import run

HISTORIES = 10_000
BLOCK = 250


@pytest.mark.parametrize("first", range(0, HISTORIES, BLOCK))
def test_whatever_fails_every_property_holds(first: int) -> None:
    for history in run_many(range(first, first + BLOCK)):
        pytest.fail(tell(history), pytrace=False)


@pytest.mark.parametrize("seed", [3, 64, 1001])
def test_the_same_seed_is_the_same_history(seed: int) -> None:
    assert fingerprint(run(seed).kernel) == fingerprint(run(seed).kernel)


def test_a_history_depends_on_nothing_but_its_seed() -> None:
    """Not on the process, nor on the order of sets of strings in it."""
    told = []
    for hash_seed in ("0", "4711"):
        command = [sys.executable, "-m", "tests.simulation", "fingerprint", "0-40"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == 41


def test_a_failing_seed_is_told_as_a_story_with_the_command_that_replays_it() -> None:
    from tests.simulation.test_teeth import MUTANTS

    cores = MUTANTS["a_leader_begins_nothing_once_its_lease_lapsed"]
    history = next(run_many(range(200), cores))
    told = tell(history).splitlines()
    assert told[0].startswith(f"seed {history.seed}: ")
    assert told[1] == f"again: make simulate SEEDS={history.seed}"
    assert any("holds the lease" in line for line in told)
    assert history.broken is not None
    others = {f"{job.key[1]}: " for job in plan(history.seed).jobs if job.key != history.broken.about}
    assert not any(other in line for line in told[2:-1] for other in others)
