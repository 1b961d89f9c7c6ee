"""A pod's step containers, which the kubelet alone starts and ends: who of them is gone is known by the lock it held.

An entrypoint locks the directory of the step that it runs. When that lock is free and the step has no exit, the
container died, and with it every process of the step. A step that nobody has locked and nothing will begin any more,
because the attempt is ending while its image is still being pulled, is skipped here in its container's place.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from runner.protocol.directory import AttemptDir, read_whole, read_word, write_once
from runner.step_ctl.aside import aside
from runner.step_ctl.reading import Seen, StepSeen

log = structlog.get_logger()

STAND_IN_SECONDS = 1.0
"""How long entrypoints have to end the attempt themselves."""


class Containers:
    """Of one attempt. `saw` is called with each new sight of the directory."""

    def __init__(self, directory: AttemptDir, tasks: asyncio.TaskGroup) -> None:
        self._directory = directory
        self._tasks = tasks
        self._watched: dict[int, asyncio.Task[None]] = {}
        self._steps: tuple[StepSeen, ...] = ()
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None

    def saw(self, seen: Seen) -> None:
        self._steps = seen.steps
        for step in seen.steps:
            if step.started_unix_ns is not None and not step.over and step.number not in self._watched:
                self._watched[step.number] = self._tasks.create_task(self._until_gone(step.number))
        if any(step.lost is not None for step in seen.steps):
            self._directory.end("lost")
        if seen.cancel is not None or self._leaving:
            self._stand_in_later()

    def leave(self) -> None:
        """The pod is being ended from outside; each container was told so by its own SIGTERM."""
        self._leaving = True
        self._stand_in_later()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._watched.values():
            task.cancel()

    async def _until_gone(self, number: int) -> None:
        await aside(_until_released, self._directory.step(number))
        if read_whole(self._directory.step(number, "exit")) is not None:
            return
        why = f"the process meant to run step {number} is gone; step {number} was started and nobody knows how it ended"
        if write_once(self._directory.lost(number), f"{why}\n".encode()):
            log.warning("entrypoint_gone", step=number)
        self._directory.end("lost")

    def _stand_in_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STAND_IN_SECONDS, self._stand_in)

    def _stand_in(self) -> None:
        self._timer = None
        word = read_word(self._directory.cancel) or "cancel"
        open_steps = [step.number for step in self._steps if not _settle(self._directory, step.number, word)]
        if open_steps:
            self._stand_in_later()
        elif write_once(self._directory.finish, b"cancelled\n"):
            log.info("containers_stood_in_for")


def _until_released(step: Path) -> None:
    """Blocking: until no entrypoint holds the step."""
    fd = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _settle(directory: AttemptDir, number: int, word: str) -> bool:
    """Whether the step is over, or is now: skipped, if it was never begun and no entrypoint is about to."""
    return _over(directory, number) or _holding(directory.step(number), lambda: _skip(directory, number, word))


def _over(directory: AttemptDir, number: int) -> bool:
    return read_whole(directory.step(number, "exit")) is not None or read_whole(directory.lost(number)) is not None


def _holding(step: Path, call: Callable[[], bool]) -> bool:
    """False when an entrypoint holds the step."""
    fd = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return call()
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def _skip(directory: AttemptDir, number: int, word: str) -> bool:
    if _over(directory, number):
        return True
    if directory.step(number, "started").exists():
        return False  # its entrypoint is gone: that is told as lost
    now = time.time_ns()
    killed_for = word if word in ("timeout", "stale", "fenced") else "cancel"
    record = (
        f"state skipped\nkilled_for {killed_for}\nverdict failed\ntries 0\nstarted_unix_ns {now}\nended_unix_ns {now}\n"
        "message The attempt was ended before its container ran\n"
    )
    return write_once(directory.step(number, "exit"), record.encode()) or _over(directory, number)
