"""Processes that are started again whenever they end, and what of the platform runs at all."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

AGAIN_SECONDS = 0.05
"""Between an end and the next start: a program that can't start at all is no busy loop."""
END_SECONDS = 60.0


@dataclass(slots=True)
class Supervised:
    """One program. What it inherits beyond its own environment (`armed`) counts from its next start on."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    armed: Mapping[str, str] = field(default_factory=dict)
    ends: list[tuple[float, int]] = field(default_factory=list)
    """(unix time, return code) of every end."""
    _process: asyncio.subprocess.Process | None = None
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False

    async def keep(self) -> None:
        """Until `stop`."""
        while not self._stopping:
            with self.log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.directory,
                    env={**self.environment, **self.armed},
                    start_new_session=True,
                )
            self._started.set()
            code = await self._process.wait()
            self._started.clear()
            self.ends.append((time.time(), code))
            await asyncio.sleep(AGAIN_SECONDS)

    async def kill(self) -> None:
        """SIGKILL for whatever incarnation runs, or starts next."""
        await self._started.wait()
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def stop(self, number: signal.Signals) -> None:
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def ended(self) -> None:
        """After `stop`. Who takes too long is killed."""
        if self._process is not None:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def running() -> dict[int, list[str]]:
    """Command lines of all processes that may be looked at."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = Path(entry.path, "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                if words:
                    found[int(entry.name)] = words
    return found


def entrypoints(attempts: Path) -> list[int]:
    """Those at work for attempts below this directory; not the steps they are just starting, which look the same."""
    alike = {
        pid
        for pid, words in running().items()
        if "run" in words[1:2] and len(words) > 2 and words[2].startswith(f"{attempts}/")
    }
    return [pid for pid in alike if _parent(pid) not in alike]


def _parent(pid: int) -> int:
    """0: it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def step_ctls(attempts: Path) -> list[int]:
    """Those at work: each attempt's lock names its holder."""
    words = [path.read_text().split()[:1] for path in attempts.glob("*/step-ctl.lock")]
    there = running()
    numbers = [int(word[0]) for word in words if word and word[0].isdecimal()]
    return [number for number in numbers if "runner.step_ctl" in there.get(number, [])]


def belonging_to(place: Path) -> dict[int, str]:
    """Everything whose arguments, environment, working directory or open files name `place`."""
    found = {}
    for pid, words in running().items():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            told = " ".join(words) + Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
            told += str(Path(f"/proc/{pid}/cwd").readlink())
            for fd in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    told += "\0" + str(Path(fd.path).readlink())
            if str(place) in told:
                found[pid] = " ".join(words)
    return found


def kill_one(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
