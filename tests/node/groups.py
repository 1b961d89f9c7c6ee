"""The node's control groups: a tree of its own, so that no other node of the machine is touched. Version 1 or 2."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = "overspill-node"
_MOUNTED = Path("/sys/fs/cgroup")
_GONE_SECONDS = 10


def make() -> None:
    for hierarchy in _hierarchies():
        root = hierarchy / ROOT
        root.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 refuses processes until they are told
            if (root / name).is_file() and not (root / name).read_text().strip():
                (root / name).write_text((hierarchy / name).read_text())


def end() -> None:
    """All that runs in it is killed, and the tree is gone."""
    kill()
    for root in _roots():
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(FileNotFoundError):  # the runtime takes its own away meanwhile
                Path(folder).rmdir()


def kill() -> None:
    """SIGKILL for all that runs in it, until nothing does."""
    deadline = time.monotonic() + _GONE_SECONDS
    while pids := {pid for root in _roots() for pid in _processes(root)}:
        assert time.monotonic() < deadline, f"processes of the node stay: {pids}"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # nothing tells when a killed process has left its group


def processes(word: bytes) -> Iterator[int]:
    """Of the node's containers, those with this word in their command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                mine = f"/{ROOT}/" in (entry / "cgroup").read_text()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if mine and word in words:
                yield int(entry.name)


def group_of(pid: int) -> str:
    """Where the kubelet put it: its pod's uid stands in it."""
    return Path(f"/proc/{pid}/cgroup").read_text()


def _hierarchies() -> list[Path]:
    if (_MOUNTED / "cgroup.controllers").is_file():
        return [_MOUNTED]
    return [each for each in _MOUNTED.iterdir() if each.is_dir() and not each.is_symlink()]


def _roots() -> list[Path]:
    return [root for each in _hierarchies() if (root := each / ROOT).is_dir()]


def _processes(root: Path) -> Iterator[int]:
    for group, _, _ in os.walk(root):  # passes over what goes while it looks, as rglob does not
        with contextlib.suppress(OSError):
            yield from map(int, (Path(group) / "cgroup.procs").read_text().split())
