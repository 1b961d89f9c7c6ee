"""One `up` a data directory. The lock is held by all its children too: a new one waits until the last of them is gone,
so that no two servers ever write the same files.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import OverspillError

ENDING_SECONDS = 45.0
_LOOK_SECONDS = 0.05


class AlreadyRunning(OverspillError):
    """Another `overspill up` (process {pid}) serves {data}: use that one, or give this one a --data of its own."""

    code = "already_running"


class StillEnding(OverspillError):
    """The `overspill up` that served {data} is gone, but what it started has not ended in {seconds:.0f} s; `ps` shows
    it below an `entrypoint guard`: end that.
    """

    code = "still_ending"


@contextmanager
def sole_user(data: Path) -> Iterator[int]:
    """The lock's descriptor, to be passed on to children. Raises AlreadyRunning, StillEnding."""
    path = data / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, data)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, data: Path) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).strip()
            if holder and _runs(int(holder)):
                raise AlreadyRunning(pid=int(holder), data=data) from None
            if time.monotonic() > deadline:
                raise StillEnding(data=data, seconds=ENDING_SECONDS) from None
            time.sleep(_LOOK_SECONDS)  # a lock that can lapse for us but not be waited for with a bound
        else:
            return


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
