"""The platform's own log of an attempt, step 000: what was fetched, what was stored, what went wrong."""

import os
import time
from pathlib import Path

import structlog

from runner.step_ctl.log_times import RECORD

log = structlog.get_logger()

LIMIT_BYTES = 8 * 2**20


class PlatformLog:
    """Appends to `log` and `log.idx`. Past the limit what comes is dropped; the last line says so."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(directory / "log", flags, 0o644)
        self._index = os.open(directory / "log.idx", flags, 0o644)
        self._size = os.fstat(self._log).st_size

    def line(self, text: str) -> None:
        self.write(text.encode(errors="replace") + b"\n")

    def write(self, data: bytes) -> None:
        if self._size >= LIMIT_BYTES:
            return
        if self._size + len(data) > LIMIT_BYTES:
            data = b"\nThe platform's log is full; what follows is dropped.\n"
            offset, self._size = self._size, LIMIT_BYTES
        else:
            offset = self._size
            self._size += len(data)
        try:
            self._append(data, offset)
        except OSError as error:
            # What could be said of a full disk finds no room there; the verdict says it.
            self._size = os.fstat(self._log).st_size
            log.warning("platform_log_not_written", why=str(error), bytes=len(data))

    def _append(self, data: bytes, offset: int) -> None:
        os.write(self._log, data)
        os.write(self._index, RECORD.pack(offset, time.time_ns()))

    def close(self) -> None:
        os.close(self._log)
        os.close(self._index)
