"""Who tells an attempt is known by a lock and a number, and numbers are given again."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent.tellers import find_teller
from runner.protocol.directory import AttemptDir

HOLD = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
    "fcntl.flock(fd, fcntl.LOCK_EX)\n"
    "os.pwrite(fd, f'{sys.argv[2] or os.getpid()}\\n'.encode(), 0)\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()"
)


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path)


@pytest.fixture
def holders(attempt: AttemptDir) -> Iterator[list["subprocess.Popen[str]"]]:
    held: list[subprocess.Popen[str]] = []
    yield held
    for process in held:
        process.communicate()


def held_by(attempt: AttemptDir, named: str = "", word: str = "runner.step_ctl") -> "subprocess.Popen[str]":
    """A process that holds the lock; `named` stands in it instead of its own number."""
    command = [sys.executable, "-c", HOLD, str(attempt.teller_lock), named, word]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_step_ctl_that_holds_the_lock_is_found(attempt: AttemptDir, holders: list["subprocess.Popen[str]"]) -> None:
    holders.append(held_by(attempt))
    found = find_teller(attempt)
    assert found is not None
    assert found.pid == holders[0].pid
    found.close()


def test_a_number_that_passed_to_another_process_is_not_taken_for_a_step_ctl(
    attempt: AttemptDir, holders: list["subprocess.Popen[str]"]
) -> None:
    holders.append(held_by(attempt, named=str(os.getpid())))
    assert find_teller(attempt) is None


def test_without_a_holder_there_is_no_step_ctl_whatever_the_lock_says(attempt: AttemptDir) -> None:
    assert find_teller(attempt) is None
    attempt.teller_lock.write_text(f"{os.getpid()}\n")
    assert find_teller(attempt) is None
    with attempt.teller_lock.open("r+") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
