"""A control group for each step, below one for the attempt that holds its memory limit. Where none can be made:
rusage.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

log = structlog.get_logger()

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS_V1 = ("memory", "cpuacct")


class Cgroups(Protocol):
    """All calls are idempotent and block for microseconds."""

    def prepare(self, name: str, steps: Sequence[int], memory_bytes: int) -> dict[int, tuple[Path, ...]]:
        """The groups each step joins."""
        ...

    def kill(self, name: str, steps: Sequence[int]) -> None:
        """SIGKILL for all that is in these steps' groups."""
        ...

    def remove(self, name: str) -> None: ...

    def names(self) -> list[str]:
        """Attempts that have groups, also those of a former agent."""
        ...

    def close(self) -> None:
        """Leave nothing behind, unless attempts still run."""
        ...


class NoCgroups:
    """Nothing may be made here."""

    def prepare(self, name: str, steps: Sequence[int], memory_bytes: int) -> dict[int, tuple[Path, ...]]:
        del name, steps, memory_bytes
        return {}

    def kill(self, name: str, steps: Sequence[int]) -> None: ...

    def remove(self, name: str) -> None: ...

    def names(self) -> list[str]:
        return []

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """Attempts' groups below `roots`: one directory of v2, or one for each controller of v1."""

    roots: tuple[Path, ...]
    limit_file: str

    def prepare(self, name: str, steps: Sequence[int], memory_bytes: int) -> dict[int, tuple[Path, ...]]:
        groups: dict[int, tuple[Path, ...]] = {}
        try:
            for root in self.roots:
                (root / name).mkdir(exist_ok=True)
                if (root / name / self.limit_file).exists():
                    (root / name / self.limit_file).write_text(str(memory_bytes))
                if (root / name / "cgroup.subtree_control").exists():
                    (root / name / "cgroup.subtree_control").write_text("+memory +cpu")
            for number in steps:
                paths = tuple(root / name / f"{number:03d}" for root in self.roots)
                for path in paths:
                    path.mkdir(exist_ok=True)
                groups[number] = paths
        except OSError as error:
            # Accounting is worth much, but not a job.
            log.warning("cgroups_unavailable", attempt=name, why=str(error))
            self.remove(name)
            return {}
        return groups

    def kill(self, name: str, steps: Sequence[int]) -> None:
        for root in self.roots:
            for number in steps:
                with contextlib.suppress(OSError):
                    for pid in (root / name / f"{number:03d}" / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)

    def remove(self, name: str) -> None:
        for root in self.roots:
            for path in (*(root / name).glob("[0-9]*"), root / name):
                with contextlib.suppress(
                    OSError
                ):  # still in use: a dying process; the next start of an agent tries again
                    path.rmdir()

    def names(self) -> list[str]:
        return sorted({path.name for root in self.roots for path in root.glob("*-[0-9]*") if path.is_dir()})

    def close(self) -> None:
        for root in self.roots:
            with contextlib.suppress(OSError):
                root.rmdir()


def find_cgroups(owner: str) -> Cgroups:
    """What this process may use, under a group of its own: `owner` is unlike any other agent's on this machine, for an
    agent removes what it finds there and does not know.
    """
    memberships = _memberships()
    tree = _v1(owner, memberships) or _v2(owner, memberships)
    return tree if tree is not None else NoCgroups()


def _memberships() -> dict[str, str]:
    """Own group by controller; v2's under ''."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    return own


def _v1(owner: str, memberships: dict[str, str]) -> CgroupTree | None:
    roots = []
    for controller in CONTROLLERS_V1:
        base = MOUNT / controller
        own = base / memberships.get(controller, "/").lstrip("/")
        root = _made((own if own.is_dir() else base) / f"overspill-{owner}", "tasks")
        if root is None:
            return None
        roots.append(root)
    return CgroupTree(tuple(roots), "memory.limit_in_bytes")


def _v2(owner: str, memberships: dict[str, str]) -> CgroupTree | None:
    """Needs a delegated group (systemd: `Delegate=yes`). The agent moves into a leaf: only groups without processes
    of their own may have controlled children.
    """
    own = MOUNT / memberships.get("", "/").lstrip("/")
    if not (own / "cgroup.controllers").exists() or own == MOUNT:
        return None
    leaf = _made(own / "agent", "cgroup.procs")
    if leaf is None:
        return None
    try:
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (own / "cgroup.subtree_control").write_text("+memory +cpu")
        root = _made(own / f"overspill-{owner}", "cgroup.procs")
        if root is None:
            return None
        (root / "cgroup.subtree_control").write_text("+memory +cpu")
    except OSError as error:
        log.info("cgroup_not_delegated", path=str(own), why=str(error))
        return None
    return CgroupTree((root,), "memory.max")


def _made(path: Path, member: str) -> Path | None:
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    return path if (path / member).exists() else None
