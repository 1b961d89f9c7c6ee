"""Each line with the time its first byte came. Pure, for chunks of any cut."""

from bisect import bisect_right
from collections.abc import Sequence

from shared.clock import iso

Times = Sequence[tuple[int, int]]
"""(offset in the log, unix milliseconds), ascending."""

_UNKNOWN = b"-" * 24 + b" "


class Stamper:
    """Feed it the log in order, from the beginning of a line."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._last_known: int | None = None

    def stamp(self, offset: int, data: bytes, times: Times) -> bytes:
        offsets = [at for at, _ in times]
        out: list[bytes] = []
        for line in _lines(data):
            if self._at_line_start:
                out.append(self._time_at(offset, offsets, times))
            out.append(line)
            offset += len(line)
            self._at_line_start = line.endswith(b"\n")
        if times:
            self._last_known = times[-1][1]
        return b"".join(out)

    def _time_at(self, offset: int, offsets: list[int], times: Times) -> bytes:
        at = bisect_right(offsets, offset) - 1
        milliseconds = times[at][1] if at >= 0 else self._last_known
        return f"{iso(milliseconds / 1000)} ".encode() if milliseconds is not None else _UNKNOWN


def _lines(data: bytes) -> list[bytes]:
    # A carriage return rewrites the line on a terminal; it does not begin a new one.
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
