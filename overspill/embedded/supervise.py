"""Child processes that can't outlive us: each runs under a guard that ends it, and all it started, when our end of the
lifeline closes, which the kernel does however we die.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from shared.errors import OverspillError

LOG_LIMIT_BYTES = 32 * 2**20
"""Of each child's log; what was before it is kept once more in `<name>.1.log`."""
LOG_LOOK_SECONDS = 30.0
_LAST_LINES = 8
_LAST_BYTES = 8192
_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0


class ChildEnded(OverspillError):
    """{name} ended unexpectedly ({how}). The end of its log {log}: {lines}"""

    code = "child_ended"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `grace_seconds`: between SIGTERM and SIGKILL."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] | None = None
    grace_seconds: float = 10.0
    tells_on_stdout: bool = False
    """Its stdout is for us and not for its log."""


@dataclass(slots=True)
class Child:
    """A program that runs."""

    program: Program
    log: Path
    _process: asyncio.subprocess.Process = field(repr=False)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> int:
        return await self._process.wait()

    async def told_line(self) -> bytes:
        """The next line it tells us; empty when it ended."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def end(self) -> None:
        """SIGTERM, and after the grace SIGKILL for it and all it started."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        await self.wait()

    def kill(self) -> None:
        """At once. The guard stays until it has killed the rest."""
        with contextlib.suppress(OSError, ValueError):
            for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)

    @property
    def how(self) -> str:
        """It ended."""
        return f"exit {self._process.returncode}"

    def failure(self) -> ChildEnded:
        lines = "".join(f"\n  {line}" for line in last_lines(self.log))
        return ChildEnded(name=self.program.name, how=self.how, log=self.log, lines=lines)

    def note(self, line: str) -> None:
        """Into its log, beside its own lines."""
        with _opened(self.log) as log:
            log.write(f"overspill: {self.program.name} {line}\n".encode())


def last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []


class Children:
    """Starts programs under a guard each. Use `open`."""

    def __init__(self, guard: Path, logs: Path, lifeline: int, keeps: tuple[int, ...]) -> None:
        self._guard = guard
        self._logs = logs
        self._lifeline = lifeline
        self._keeps = keeps
        self._running: dict[str, Child] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, guard: Path, logs: Path, keeps: tuple[int, ...] = ()) -> AsyncIterator["Children"]:
        """`guard`: the entrypoint binary. `keeps`: descriptors that every child holds open as long as it lives.

        What still runs at the end is ended, the last started first.
        """
        await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True, mode=0o700)
        read_end, write_end = os.pipe()
        children = cls(guard, logs, read_end, keeps)
        bounding = asyncio.create_task(children._bound_logs())
        try:
            yield children
        finally:
            bounding.cancel()
            for child in reversed(children._running.values()):
                await child.end()
            os.close(write_end)
            os.close(read_end)

    async def start(self, program: Program) -> Child:
        log = self._logs / f"{program.name}.log"
        guard = [str(self._guard), "guard", "--lifeline", str(self._lifeline)]
        guard += ["--grace", str(round(program.grace_seconds * 1000)), "--"]
        with _opened(log) as output:
            process = await asyncio.create_subprocess_exec(
                *guard,
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if program.tells_on_stdout else output,
                stderr=output,
                pass_fds=(self._lifeline, *self._keeps),
                # Ctrl-C of the terminal is for us: we end them in order.
                start_new_session=True,
                env=None if program.environment is None else dict(program.environment),
                cwd=program.directory,
            )
        child = Child(program, log, process)
        self._running[program.name] = child  # started again, it keeps its place in the order of ending
        return child

    def running(self, program: Program) -> Child:
        """The newest that was started of it."""
        return self._running[program.name]

    def kill(self) -> None:
        """All of them, at once."""
        for child in self._running.values():
            child.kill()

    async def keep_alive(self, child: Child) -> None:
        """Start it again whenever it ends. Raises ChildEnded when it ends too often. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        ends: list[float] = []
        while True:
            await child.wait()
            ends = [at for at in ends if at > loop.time() - _RESTART_WINDOW_SECONDS] + [loop.time()]
            if len(ends) > _RESTARTS:
                raise child.failure()
            child.note(f"ended unexpectedly ({child.how}); started again")
            await asyncio.sleep(0.1 * 2 ** (len(ends) - 1))
            child = await self.start(child.program)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_LOOK_SECONDS)
            for log in self._logs.glob("*.log"):
                await asyncio.to_thread(_bound, log)


def _opened(log: Path) -> IO[bytes]:
    """For appending: a log that is cut while its writer writes then goes on at the beginning."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES // 2:
        log.replace(log.with_suffix(".1.log"))
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def _bound(log: Path) -> None:
    """Keep the newest part once more, then begin anew. The few lines written meanwhile are lost."""
    if log.name.endswith(".1.log") or log.stat().st_size <= LOG_LIMIT_BYTES:
        return
    with log.open("rb") as source, log.with_suffix(".1.log").open("wb") as target:
        source.seek(-LOG_LIMIT_BYTES // 2, os.SEEK_END)
        target.write(source.read())
    os.truncate(log, 0)
