"""What this machine is and has."""

import os
import platform
import shutil
from pathlib import Path

from runner.agent.settings import Settings
from shared.needs import Capacity

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """As image registries name it."""
    name = platform.machine()
    return ARCHITECTURES.get(name, name)


def capacity(settings: Settings) -> Capacity:
    """What settings give, else all of it. Disk is what is free now."""
    settings.data.mkdir(parents=True, exist_ok=True)
    return Capacity(
        cpu_millis=settings.cpu_millis or len(os.sched_getaffinity(0)) * 1000,
        memory_bytes=settings.memory_bytes or _memory_bytes(),
        disk_bytes=settings.disk_bytes or shutil.disk_usage(settings.data).free,
    )


def _memory_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemTotal"].split()[0]) * 1024
