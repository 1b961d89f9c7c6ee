"""Changes of directories as asyncio events: inotify through ctypes; where that is used up, a ticker."""

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

TICK_SECONDS = 0.25
PAUSE_SECONDS = 0.004
"""A step that writes byte by byte makes an event of each; they are taken together after this pause."""

_APPEARED = 0x00000080  # IN_MOVED_TO
_CREATED = 0x00000100  # IN_CREATE
_GROWN = 0x00000002  # IN_MODIFY
_OVERFLOW = 0x00004000  # IN_Q_OVERFLOW
_HEAD = struct.Struct("iIII")


class Watcher:
    """Watches directories while its `open` context lasts. After an overflow or a tick every watch is called."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._calls: dict[int, Callable[[bool], None]] = {}
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pause: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        if self._fd >= 0:
            loop.add_reader(self._fd, self._on_readable)
        try:
            yield
        finally:
            for timer in (self._pause, self._ticker):
                if timer is not None:
                    timer.cancel()
            if self._fd >= 0:
                loop.remove_reader(self._fd)
                os.close(self._fd)

    def watch(self, path: Path, call: Callable[[bool], None]) -> None:
        """`call(appeared)` runs after each change in directory `path`; True when a file appeared, False when one
        grew.
        """
        if self._fd >= 0:
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _APPEARED | _CREATED | _GROWN)
            if number >= 0:
                self._calls[number] = call
                return
        # No watch to be had: the ticker calls it.
        self._calls[-1 - len(self._calls)] = call
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        for number, call in tuple(self._calls.items()):
            if number < 0:
                call(True)
        self._ticker = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _on_readable(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        appeared: dict[int, bool] = {}
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._fd, 65_536)
            at = 0
            while at < len(data):
                number, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                if mask & _OVERFLOW:
                    appeared = dict.fromkeys(self._calls, True)
                elif number in self._calls:
                    appeared[number] = appeared.get(number, False) or bool(mask & (_APPEARED | _CREATED))
        self._pause = loop.call_later(PAUSE_SECONDS, loop.add_reader, self._fd, self._on_readable)
        for number, whether in appeared.items():
            self._calls[number](whether)
