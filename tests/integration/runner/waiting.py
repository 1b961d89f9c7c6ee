"""Waits for files to come and go, by inotify; and what of a process is open to others."""

import asyncio
import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 60.0
_ANY = 0x00000FFF
_libc = ctypes.CDLL(None, use_errno=True)


def _until(directory: Path, holds: Callable[[], bool]) -> None:
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        assert _libc.inotify_add_watch(fd, os.fsencode(directory), _ANY) >= 0, f"{directory} is not there"
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], f"nothing came of {directory}"
            os.read(fd, 65536)
    finally:
        os.close(fd)


async def until_there(path: Path) -> None:
    await asyncio.to_thread(_until, path.parent, lambda: path.exists() and path.stat().st_size > 0)


async def until_named(path: Path) -> None:
    """As until_there, of a file that may be empty."""
    await asyncio.to_thread(_until, path.parent, path.exists)


async def until_gone(path: Path) -> None:
    await asyncio.to_thread(_until, path.parent, lambda: not path.exists())


async def until_written(path: Path, words: bytes) -> None:
    """The file holds these words."""
    await asyncio.to_thread(_until, path.parent, lambda: path.exists() and words in path.read_bytes())


async def until_process_gone(pid: int) -> None:
    def wait() -> None:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([fd], [], [], PATIENCE_SECONDS)[0], f"process {pid} lives on"
        finally:
            os.close(fd)

    await asyncio.to_thread(wait)


def listening(pid: int) -> list[str]:
    """TCP sockets in state LISTEN (0A) that belong to the process."""
    own = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    lines = [
        line.split() for each in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{each}").read_text().splitlines()
    ]
    return [words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in own]
