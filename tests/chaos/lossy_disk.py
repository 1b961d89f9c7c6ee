"""A disk that loses its power: what was written and not synced is gone.

An ext4 in a file, mounted by a loop device. `lose_power` shuts the file system down without flushing its log
(EXT4_IOC_SHUTDOWN, what xfstests use for the same end): from then on nothing reaches the disk, and after mounting
again there is what had been synced, or written back by itself. Needs root and a Linux that mounts loop devices.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)


class LossyDisk:
    def __init__(self, image: Path, path: Path) -> None:
        self._image = image
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def made(cls, home: Path, size_bytes: int = 512 * 2**20) -> Iterator["LossyDisk"]:
        disk = cls(home / "disk.img", home / "disk")
        disk.path.mkdir()
        with disk._image.open("wb") as image:
            image.truncate(size_bytes)
        _run("mkfs.ext4", "-q", str(disk._image))
        disk._mount()
        try:
            yield disk
        finally:
            _run("umount", str(disk.path))

    def _mount(self) -> None:
        # commit: how often the file system syncs by itself, which is not to be what saves anybody here.
        _run("mount", "-o", "loop,commit=300", str(self._image), str(self.path))

    def lose_power(self) -> None:
        """At this very instant. Whoever has files open there gets errors, as a dead machine's processes would not."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def power_on(self) -> None:
        """After everyone who used it has ended."""
        _unmount(self.path)
        self._mount()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()} (this needs root)"


def _unmount(path: Path) -> None:
    """A killed process may hold it a moment longer."""
    deadline = time.monotonic() + 10
    while subprocess.run(["umount", str(path)], capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, f"{path} stays in use"
        time.sleep(0.05)
