"""The control group that holds all containers of a group together, where the runtime knows no pods; and who was killed
for memory in it. Made by the runtime, below a directory of ours; limited, read and taken away here.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.containers.model import Limits
from runner.containers.runtime import NotStarted, RuntimeGone

MOUNT = Path("/sys/fs/cgroup")
PARENT = "overspill"
_PERIOD_MICROS = 100_000
_LEAST_QUOTA_MICROS = 1000
"""The kernel's."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    mount: Path = MOUNT

    def set(self, name: str, limits: Limits) -> None:
        """Of the group, which is there. Raises NotStarted: a job is not run without its limits."""
        quota = max(_LEAST_QUOTA_MICROS, limits.cpu_millis * _PERIOD_MICROS // 1000)
        try:
            if self._unified:
                group = self.mount / PARENT / name
                (group / "memory.max").write_text(str(limits.memory_bytes))
                with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                    (group / "memory.swap.max").write_text("0")
                (group / "cpu.max").write_text(f"{quota} {_PERIOD_MICROS}")
                return
            memory = self.mount / "memory" / PARENT / name
            (memory / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
            with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
                (memory / "memory.memsw.limit_in_bytes").write_text(str(limits.memory_bytes))
            (self.mount / "cpu" / PARENT / name / "cpu.cfs_quota_us").write_text(str(quota))
        except OSError as error:
            raise NotStarted(name=name, why=f"its limits can't be set: {error}") from error

    def killed_for_memory(self, name: str, identity: str) -> bool:
        """Of a container that has ended and was not removed: by the kernel, since it or its group had no more."""
        inner = Path(PARENT) / name / identity
        file = inner / "memory.events" if self._unified else Path("memory") / inner / "memory.oom_control"
        try:
            lines = (self.mount / file).read_text().splitlines()
        except OSError:
            return False  # the machine was restarted since
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def remove(self, name: str) -> None:
        """The group, which holds no container any more. Raises RuntimeGone while one is still dying in it."""
        for directory in self._directories(name):
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue  # the same one by another controller's name
            except OSError as error:
                raise RuntimeGone(why=str(error)) from error

    @property
    def _unified(self) -> bool:
        return (self.mount / "cgroup.controllers").exists()

    def _directories(self, name: str) -> Iterator[Path]:
        yield from self.mount.glob(f"{PARENT}/{name}" if self._unified else f"*/{PARENT}/{name}")
