"""Step-ctl processes: kept warm, handed a directory, found again by the lock they hold."""

import asyncio
import fcntl
import os
import sys
from collections import deque
from pathlib import Path

import structlog

from runner.agent.processes import Process, hold, start
from runner.protocol.directory import AttemptDir, read_word

log = structlog.get_logger()

REFILL_SECONDS = 1.0
LOG_LIMIT_BYTES = 16 * 2**20
MODULE = "runner.step_ctl"
COMMAND = (sys.executable, "-P", "-m", MODULE)


class Tellers:
    """Of one agent. `errors`: where they log; `die_with_parent`: they end when our end of their stdin closes."""

    def __init__(self, spares: int, errors: Path, options: tuple[str, ...] = ()) -> None:
        self._wanted = spares
        self._errors = errors
        self._options = options
        self._spares: deque[tuple[Process, int]] = deque()
        self._lifelines: dict[int, int] = {}
        self._refill: asyncio.TimerHandle | None = None

    def fill(self) -> None:
        """Start what is missing of the warm ones. Costs milliseconds here; they take half a second to be warm."""
        while len(self._spares) < self._wanted:
            self._spares.append(self._start("--spare"))

    def start(self, directory: AttemptDir) -> Process:
        """A step-ctl at work on this directory: a warm one when there is one."""
        if self._refill is None:
            # Not at once: an attempt that begins has better use for the processor.
            self._refill = asyncio.get_running_loop().call_later(REFILL_SECONDS, self._fill_later)
        while self._spares:
            process, stdin = self._spares.popleft()
            try:
                os.write(stdin, f"{directory.root}\n".encode())
            except BrokenPipeError:
                os.close(stdin)
                log.warning("spare_was_gone", exit_code=process.close())
                continue
            return self._at_work(process, stdin)
        process, stdin = self._start(str(directory.root))
        return self._at_work(process, stdin)

    def _fill_later(self) -> None:
        self._refill = None
        self.fill()

    def _start(self, word: str) -> tuple[Process, int]:
        if self._errors.exists() and self._errors.stat().st_size > LOG_LIMIT_BYTES:
            self._errors.replace(self._errors.with_suffix(".old"))
        theirs, ours = os.pipe()
        try:
            process = start([*COMMAND, *self._options, word], Path.cwd(), self._errors, stdin=theirs)
        finally:
            os.close(theirs)
        return process, ours

    def _at_work(self, process: Process, stdin: int) -> Process:
        if self._options:
            self._lifelines[process.pid] = stdin
        else:
            os.close(stdin)
        return process

    def ended(self, process: Process) -> None:
        stdin = self._lifelines.pop(process.pid, None)
        if stdin is not None:
            os.close(stdin)

    def close(self) -> None:
        """Spares end when their stdin does; so do those at work, if they are to die with us."""
        if self._refill is not None:
            self._refill.cancel()
        for process, stdin in self._spares:
            os.close(stdin)
            process.close()
        self._spares.clear()
        for stdin in self._lifelines.values():
            os.close(stdin)
        self._lifelines.clear()


def find_teller(directory: AttemptDir) -> Process | None:
    """Who holds the attempt's step-ctl lock, whoever started it."""
    try:
        fd = os.open(directory.teller_lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        word = read_word(directory.teller_lock)
        # Who took the lock just now has not written its number yet: what stands there is its predecessor's.
        return hold(int(word), MODULE) if word and word.isdecimal() else None
    finally:
        os.close(fd)
    return None
