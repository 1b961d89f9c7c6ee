"""A followed log as bytes for an output, and how a terminal gets them. No I/O."""

from bisect import bisect_right

from overspill.following import Wrote
from overspill.view.words import harmless
from shared.clock import iso

LONGEST_LINE_BYTES = 262_144
"""A longer line is passed on in pieces: memory is bounded, whatever a step writes."""
LONGEST_SEQUENCE_BYTES = 256
"""What steers a terminal is not cut in two, unless it is longer than this."""
_UNKNOWN = b"-" * 24 + b" "


class Stamps:
    """Each line with the time its first byte came. Of one step; feed it the log in order."""

    def __init__(self) -> None:
        self._within_line = False
        self._came: int | None = None

    def stamp(self, wrote: Wrote) -> bytes:
        offsets = [at for at, _ in wrote.times]
        out: list[bytes] = []
        at = wrote.offset
        for line in wrote.data.splitlines(keepends=True):
            if not self._within_line:
                before = bisect_right(offsets, at)
                out.append(self._time(wrote.times[before - 1][1] if before else self._came))
            out.append(line)
            at += len(line)
            # A carriage return rewrites the line on a terminal; it does not begin a new one.
            self._within_line = not line.endswith(b"\n")
        if wrote.times:
            self._came = wrote.times[-1][1]
        return b"".join(out)

    @staticmethod
    def _time(unix_ms: int | None) -> bytes:
        return _UNKNOWN if unix_ms is None else f"{iso(unix_ms / 1000)} ".encode()


class OneLog:
    """One step's log: its bytes as they come, and a notice where some are missing."""

    def __init__(self, stamps: Stamps | None) -> None:
        self._stamps = stamps
        self._within_line = False

    def add(self, wrote: Wrote) -> bytes:
        data = self._stamps.stamp(wrote) if self._stamps else wrote.data
        notice = b""
        if wrote.notice:
            notice = b"\n" * self._within_line + wrote.notice.encode() + b"\n"
            self._within_line = False
        if data:
            self._within_line = not data.endswith(b"\n")
        return notice + data

    def rest(self) -> bytes:
        return b""


class SeveralLogs:
    """Of steps that run side by side: whole lines, so that they don't mix within one."""

    def __init__(self, stamps: type[Stamps] | None) -> None:
        self._stamps = stamps
        self._logs: dict[int, OneLog] = {}
        self._rest: dict[int, bytes] = {}

    def add(self, wrote: Wrote) -> bytes:
        log = self._logs.get(wrote.step)
        if log is None:
            log = self._logs[wrote.step] = OneLog(self._stamps() if self._stamps else None)
        whole, newline, rest = (self._rest.pop(wrote.step, b"") + log.add(wrote)).rpartition(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            return whole + newline + rest
        self._rest[wrote.step] = rest
        return whole + newline

    def rest(self) -> bytes:
        """Unfinished lines, each finished."""
        return b"".join(rest + b"\n" for _, rest in sorted(self._rest.items()) if rest)


class Harmless:
    """For a terminal: colours stay, whatever else would steer it goes."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        data, self._rest = _cut(self._rest + data)
        return _shown(data)

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return _shown(rest) + b"\n" if rest else b""


def _shown(data: bytes) -> bytes:
    return harmless(data.decode(errors="replace")).encode()


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """What can be shown now, and what waits for the rest of its line."""
    whole, newline, rest = data.rpartition(b"\n")
    if len(rest) <= LONGEST_LINE_BYTES:
        return whole + newline, rest
    end = len(data)
    sequence = data.rfind(b"\x1b", end - LONGEST_SEQUENCE_BYTES)
    if sequence >= 0:
        return data[:sequence], data[sequence:]
    while end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:  # noqa: PLR2004 - UTF-8: goes on
        end -= 1
    if data[end - 1] >= 0xC0:  # noqa: PLR2004 - UTF-8: begins a character
        end -= 1
    return data[:end], data[end:]
