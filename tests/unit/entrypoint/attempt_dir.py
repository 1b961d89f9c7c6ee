"""Lays out an attempt directory as the edge does, runs entrypoints on it, and waits for what they write."""

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_SECONDS = 60.0  # far beyond what anything here takes: only a hang is as slow
PATH = "/usr/local/bin:/usr/bin:/bin"
Command = str | Sequence[str]

_libc = ctypes.CDLL(None, use_errno=True)
_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x8, 0x80, 0x100


def until_exists(path: Path) -> Path:
    """Wait by inotify until `path` exists and is not empty."""
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        watch = _libc.inotify_add_watch(fd, bytes(path.parent), _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE)
        assert watch >= 0, f"{path.parent}: {os.strerror(ctypes.get_errno())}"
        while not (path.exists() and path.stat().st_size):
            assert select.select([fd], [], [], PATIENCE_SECONDS)[0], f"{path} never came"
            os.read(fd, 65536)
    finally:
        os.close(fd)
    return path


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(pid: int) -> None:
    """Wait by pidfd until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE_SECONDS)[0], f"process {pid} lives on"
    finally:
        os.close(fd)


def pids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def argv_of(command: Command) -> list[str]:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def strings(items: Sequence[str | bytes]) -> bytes:
    return b"".join((os.fsencode(item) if isinstance(item, str) else item) + b"\0" for item in items)


@dataclass
class Running:
    """An entrypoint at work; leaving the `with` block kills it if a test has not ended it."""

    process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@dataclass
class AttemptDir:
    """An attempt directory below `root` for `binary` to run."""

    root: Path
    binary: Path
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.root.parent / "work"
        self.work.mkdir(exist_ok=True)
        (self.root / "go").mkdir(parents=True)
        (self.root / "protocol").write_text("1\n")

    def step(
        self,
        number: int,
        command: Command,
        *,
        next: int | str = "finish",  # noqa: A002 - the protocol's word
        env: Mapping[str, str] | None = None,
        ready: Command | None = None,
        cgroups: Sequence[Path] = (),
        **config: str | int,
    ) -> Path:
        """Prepare a step; `if_` stands for the key `if`."""
        where = self.path(number)
        where.mkdir(parents=True)
        words = {"cwd": str(self.work), "next": f"{next:03d}" if isinstance(next, int) else next}
        words |= {key.rstrip("_"): str(value) for key, value in config.items()}
        lines = [f"{key} {value}" for key, value in words.items()] + [f"cgroup {path}" for path in cgroups]
        (where / "config").write_text("\n".join(lines) + "\n")
        (where / "argv").write_bytes(strings(argv_of(command)))
        files = {f"OVERSPILL_{n.upper()}": str(where / f"{n}.out") for n in ("env", "output", "summary")}
        variables = {"PATH": PATH} | files | dict(env or {})
        (where / "env").write_bytes(strings([f"{name}={value}" for name, value in variables.items()]))
        for name in ("env.out", "output.out", "summary.out"):
            (where / name).touch()
        if ready is not None:
            (where / "ready.argv").write_bytes(strings(argv_of(ready)))
        return where

    def chain(self, *commands: Command, **config: Any) -> list[int]:
        """Prepare foreground steps 001 to N, each posting on to the next one."""
        numbers = list(range(1, len(commands) + 1))
        for number, command in zip(numbers, commands, strict=True):
            self.step(number, command, next=number + 1 if number < len(commands) else "finish", **config)
        return numbers

    def path(self, number: int, name: str = "") -> Path:
        return self.root / "steps" / f"{number:03d}" / name

    def post(self, name: str, word: str) -> None:
        """Write as the protocol wants it: beside its place, then renamed."""
        beside = self.root / f".{name.replace('/', '-')}.edge"
        beside.write_text(word + "\n")
        beside.rename(self.root / name)

    def go(self, number: int, word: str = "ok") -> None:
        self.post(f"go/{number:03d}", word)

    def start(
        self,
        *numbers: int,
        tee: bool = False,
        stdout: int = subprocess.DEVNULL,
        prefix: Sequence[str] = (),
        **popen: Any,
    ) -> Running:
        command = [*prefix, str(self.binary), "run", *(["--tee"] if tee else []), str(self.root)]
        command += [f"{number:03d}" for number in numbers]
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, **popen)
        return Running(process)

    def run(self, *numbers: int, word: str | None = "ok") -> tuple[int, str]:
        """Run steps to their end, the first one's turn having come. Returns exit code and stderr."""
        if word is not None and not (self.root / "go" / f"{numbers[0]:03d}").exists():
            self.go(numbers[0], word)
        with self.start(*numbers) as running:
            _, complaint = running.process.communicate(timeout=PATIENCE_SECONDS)
            return running.process.returncode, complaint.decode()

    def word(self, name: str) -> str | None:
        path = self.root / name
        return path.read_text().strip() if path.exists() else None

    @property
    def finish(self) -> str | None:
        return self.word("finish")

    def exit(self, number: int) -> dict[str, str]:
        lines = self.path(number, "exit").read_text(encoding="utf-8").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def has_exit(self, number: int) -> bool:
        return self.path(number, "exit").exists()

    def log(self, number: int) -> bytes:
        return self.path(number, "log").read_bytes()

    def until(self, number: int, name: str) -> Path:
        return until_exists(self.path(number, name))

    def until_file(self, name: str) -> str:
        """Wait for a file that a step writes into its working directory."""
        return until_exists(self.work / name).read_text()
