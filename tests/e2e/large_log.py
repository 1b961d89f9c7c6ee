"""A log of any size whose every byte is known, and how much memory its way took."""

import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.platform import OVERSPILL, Platform

MIB = 2**20
PROGRAM = """
import hashlib, sys
block = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\\n" for n in range(16_132))[: 2**20]
for number in range({mebibytes}):
    sys.stdout.buffer.write(b"%08d" % number + block[8:])
"""
PROCESSES = {
    "step-ctl": b"runner.step_ctl",
    "hub": b"overspill.hub",
    "bus": b"nats-server",
    "entrypoint": b"entrypoint\0run",
}
"""What the log passes, and what its command line has."""


def spec(mebibytes: int) -> dict[str, Any]:
    return {"name": "large", "steps": [{"command": [sys.executable, "-c", PROGRAM.format(mebibytes=mebibytes)]}]}


def digest(mebibytes: int) -> str:
    block = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\n" for n in range(16_132))[:MIB]
    whole = hashlib.sha256()
    for number in range(mebibytes):
        whole.update(b"%08d" % number + block[8:])
    return whole.hexdigest()


@dataclass
class Command:
    """A command of ours whose output is summed up, not kept."""

    process: "subprocess.Popen[bytes]"
    sum: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    peak_bytes: int = 0

    @classmethod
    def start(cls, platform: Platform, *arguments: str) -> "Command":
        command = [*OVERSPILL, *arguments]
        return cls(subprocess.Popen(command, stdout=subprocess.PIPE, env=platform.environment(), cwd=platform.home))

    def digest(self) -> str:
        assert self.process.stdout is not None
        with self.process:
            while data := self.process.stdout.read(MIB):
                self.sum.update(data)
                self.peak_bytes = max(self.peak_bytes, peak_bytes(self.process.pid))
        assert self.process.returncode == 0
        return self.sum.hexdigest()


def raw_digest(platform: Platform, job: str) -> str:
    whole = hashlib.sha256()
    where = f"{platform.ready['url']}/v1/jobs/{job}/logs?step=1"
    headers = {"Authorization": f"Bearer {platform.environment()['OVERSPILL_TOKEN']}"}
    with httpx.stream("GET", where, headers=headers, timeout=120) as answer:
        for data in answer.iter_raw():
            whole.update(data)
    return whole.hexdigest()


def peak_bytes(pid: int) -> int:
    """The most memory the process ever had at once; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextmanager
def peaks(data: Path) -> Iterator[dict[str, int]]:
    """What each process of the platform had at most, while the context lasts."""
    seen: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    name = next((name for name, word in PROCESSES.items() if word in command), None)
                    ours = str(data).encode() in command + (entry / "environ").read_bytes()
                    if name and ours and b"guard" not in command:
                        seen[name] = max(seen.get(name, 0), peak_bytes(int(entry.name)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
