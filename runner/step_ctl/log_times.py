"""When the bytes of a log arrived, from its `log.idx`."""

import os
import struct
import time
from pathlib import Path

RECORD = struct.Struct("<QQ")
MAX_TIMES = 512
"""Of one chunk: what fits a message's headers well. A chunk with more of them is cut shorter."""
NS_PER_MS = 1_000_000


class LogTimes:
    """Reads the records of one index; they ascend in both columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def between(self, begin: int, end: int) -> tuple[tuple[tuple[int, int], ...], int]:
        """(offset, unix ms) of arrivals in [begin, end), the first one at `begin` itself; and where a chunk must end
        to hold them.
        """
        count = self._count()
        first = max(self._first_after(begin, count) - 1, 0)
        times: list[tuple[int, int]] = []
        for number in range(first, count):
            offset, unix_ns = self._record(number)
            if offset >= end:
                break
            if len(times) == MAX_TIMES:
                return tuple(times), offset
            times.append((max(offset, begin), unix_ns // NS_PER_MS))
        # The index is written after the bytes: its record of the newest ones may be on its way.
        return tuple(times) or ((begin, time.time_ns() // NS_PER_MS),), end

    def _count(self) -> int:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return 0
        return os.fstat(self._fd).st_size // RECORD.size

    def _record(self, number: int) -> tuple[int, int]:
        offset, unix_ns = RECORD.unpack(os.pread(self._fd, RECORD.size, number * RECORD.size))
        return offset, unix_ns

    def _first_after(self, offset: int, count: int) -> int:
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if self._record(middle)[0] > offset:
                high = middle
            else:
                low = middle + 1
        return low
