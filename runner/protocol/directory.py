"""Paths of an attempt directory, and whole-file reads and writes."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.protocol.words import CancelWord

PROTOCOL = 1
RESERVED_BYTES = 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def _reserved(path: Path) -> Path:
    """RESERVED_BYTES written at the start, to become `path` should the disk be full then."""
    return path.with_name(f".{path.name}.reserved")


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` so that no reader sees a part of it."""
    _write_beside(path, data, mode).replace(path)


def write_once(path: Path, data: bytes) -> bool:
    """Write `path` unless it exists; of several writers one wins and is told so."""
    if path.exists():
        return False
    beside = _write_beside(path, data)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True


def _write_beside(path: Path, data: bytes, mode: int = 0o644) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno not in _NO_ROOM or len(data) > RESERVED_BYTES:
            raise
        try:
            _reserved(path).rename(beside)
        except FileNotFoundError:
            raise error from None
        with beside.open("r+b") as file:
            file.write(data)
            file.truncate()
    return beside


def read_whole(path: Path) -> bytes | None:
    """None when absent. Empty counts as absent: a power loss may leave a name without content."""
    try:
        return path.read_bytes() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_word(path: Path) -> str | None:
    data = read_whole(path)
    return data.decode(errors="replace").strip() if data else None


def read_fields(path: Path) -> dict[str, str] | None:
    """`key value` lines. Later lines win, as for the entrypoint."""
    data = read_whole(path)
    if data is None:
        return None
    lines = data.decode(errors="replace").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines if line)}


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """One attempt's directory. `work`, `home` and `tmp` are where an agent keeps what steps see as theirs."""

    root: Path

    @property
    def attempt_file(self) -> Path:
        return self.root / "attempt.json"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def finish(self) -> Path:
        return self.root / "finish"

    @property
    def cancel(self) -> Path:
        return self.root / "cancel"

    @property
    def boot(self) -> Path:
        """A pod's: the boot id of its node, by whichever container was first."""
        return self.root / "boot"

    @property
    def contact(self) -> Path:
        """A pod's: when step-ctl last heard from the hub what should be of the attempt."""
        return self.root / "contact"

    @property
    def hold(self) -> Path:
        return self.root / "hold"

    @property
    def told(self) -> Path:
        return self.root / "told"

    @property
    def teller_lock(self) -> Path:
        """Held by the step-ctl at work; the file says its pid."""
        return self.root / "step-ctl.lock"

    def step(self, number: int, name: str = "") -> Path:
        return self.root / "steps" / f"{number:03d}" / name

    def go(self, number: int) -> Path:
        return self.root / "go" / f"{number:03d}"

    def lost(self, number: int) -> Path:
        return self.root / "lost" / f"{number:03d}"

    @property
    def source(self) -> Path:
        """step-ctl's own record of the workspace: `state ok|failed|error`, `why`, `ready_unix_ns`."""
        return self.step(0, "source")

    def reserve(self) -> None:
        """Take the disk space for what ends an attempt: that goes through on a full disk too."""
        for path in (self.cancel, self.told, self.source):
            _reserved(path).write_bytes(b" " * RESERVED_BYTES)
        self.teller_lock.write_bytes(b" " * RESERVED_BYTES)

    def end(self, word: CancelWord) -> bool:
        """Ask every entrypoint to end its steps. The first word stands; False when there is one already."""
        return write_once(self.cancel, f"{word}\n".encode())

    def step_numbers(self) -> Iterator[int]:
        for path in sorted((self.root / "steps").iterdir()):
            if path.name.isdigit() and path.name != "000":
                yield int(path.name)
