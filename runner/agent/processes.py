"""Processes of attempts: started, found again after a restart of the agent, waited for, killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GUARD_EXTRA_MS = 2000


@dataclass(slots=True)
class Process:
    """A process, ours or a former agent's. Its descriptor names it for ever, its number does not."""

    pid: int
    fd: int
    child: "subprocess.Popen[bytes] | None" = None

    async def gone(self) -> int | None:
        """Waits for its end; the exit code, None when it is nobody's child here."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self.fd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.fd)
        return self.close()

    def close(self) -> int | None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        return self.child.wait() if self.child is not None else None

    def signal(self, number: signal.Signals) -> None:
        if self.fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.fd, number)


def start(
    command: Sequence[str],
    directory: Path,
    errors: Path,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """In a session of its own, so that it outlives its starter; what it complains goes to `errors`."""
    with errors.open("ab") as complaints:
        child = subprocess.Popen(  # noqa: S603 - our own programs
            list(command), cwd=directory, stdin=stdin, stdout=complaints, stderr=complaints,
            pass_fds=tuple(pass_fds), start_new_session=True, env=environment,
        )  # fmt: skip
    return Process(child.pid, os.pidfd_open(child.pid), child)


def entrypoint_command(binary: Path, directory: Path, numbers: Sequence[int]) -> list[str]:
    return [str(binary), "run", str(directory), *(f"{number:03d}" for number in numbers)]


def find_entrypoint(directory: Path, numbers: Sequence[int]) -> Process | None:
    """The process that runs exactly these steps of this attempt, whoever started it."""
    wanted = entrypoint_command(Path("any"), directory, numbers)[1:]
    for pid, words in _command_lines():
        if words[-len(wanted) :] == wanted:
            return _held(pid, wanted)
    return None


def _held(pid: int, wanted: list[str]) -> Process | None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Read again: only now the number can't have passed to another process.
    if _words_of(pid)[-len(wanted) :] != wanted:
        os.close(fd)
        return None
    return Process(pid, fd)


def hold(pid: int, word: str) -> Process | None:
    """The process of this number, if `word` is in its command line: numbers are given again."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if word not in _words_of(pid):
        os.close(fd)
        return None
    return Process(pid, fd)


def hold_in(pid: int, group: str) -> Process | None:
    """The process of this number, if it is in a control group with `group` in its name."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        groups = ""
    if group not in groups:
        os.close(fd)
        return None
    return Process(pid, fd)


def kill_steps(workspace: Path, steps: Sequence[int]) -> int:
    """SIGKILL for every process whose environment says that it belongs to one of these steps of this workspace: what an
    entrypoint that was itself killed left behind. Returns how many.
    """
    place = b"OVERSPILL_WORKSPACE=" + os.fsencode(workspace)
    marks = {f"OVERSPILL_STEP={number}".encode() for number in steps}
    killed = 0
    for pid in _pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            environment = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
            if place in environment and environment & marks:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal())


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for pid in _pids():
        words = _words_of(pid)
        if words:
            yield pid, words


def _words_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []
