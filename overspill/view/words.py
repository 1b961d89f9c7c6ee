"""Numbers, times and marks as people read them."""

import re
from datetime import datetime

MINUTE, HOUR = 60, 3600
FEW_SECONDS = 9.95

MARKS = {
    "pending": "·", "running": "▶", "ready": "◆", "ok": "✓", "failed": "✗", "skipped": "-", "cancelled": "■",
    "queued": "·", "placed": "▶", "succeeded": "✓", "timed_out": "⏱", "error": "!",
}  # fmt: skip
PLAIN_MARKS = {
    "pending": ".", "running": ">", "ready": "*", "ok": "ok", "failed": "FAILED", "skipped": "-",
    "cancelled": "cancelled",
    "queued": ".", "placed": ">", "succeeded": "ok", "timed_out": "TIMED OUT", "error": "ERROR",
}  # fmt: skip
STYLES = {
    "running": "cyan", "placed": "cyan", "ready": "cyan", "ok": "green", "succeeded": "green", "failed": "red",
    "timed_out": "red", "error": "magenta", "cancelled": "yellow", "pending": "dim", "queued": "dim", "skipped": "dim",
}  # fmt: skip
"""Errors of the platform never share a colour with errors of the user."""

_SEQUENCES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[P^_X][^\x1b]*(?:\x1b\\)?|\x1b\[[0-?]*[ -/]*([@-~])|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


_EIGHT_BIT = {0x80 + at: f"\x1b{chr(0x40 + at)}" for at in range(0x20)}
"""Each control of the second set is an escape and a letter in the first."""


def duration(seconds: float) -> str:
    """`0.41 s`, `12.3 s`, `3 m 05 s`, `2 h 04 m`."""
    if seconds < FEW_SECONDS:
        return f"{seconds:.2f} s"
    if seconds < MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} m {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} m"


def size(count_bytes: float) -> str:
    """`512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1024:  # noqa: PLR2004 - one Ki
            return f"{count_bytes:.0f} B" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TiB"


def seconds_of(rfc3339: str | None) -> float | None:
    """Unix seconds."""
    return datetime.fromisoformat(rfc3339).timestamp() if rfc3339 else None


def ago(then_seconds: float, now_seconds: float) -> str:
    """One unit is enough: `12 s ago`, `3 h ago`."""
    passed = max(0.0, now_seconds - then_seconds)
    for unit, length in (("d", 86_400), ("h", HOUR), ("min", MINUTE)):
        if passed >= length:
            return f"{int(passed // length)} {unit} ago"
    return f"{int(passed)} s ago"


def mark(state: str, *, unicode: bool) -> str:
    return (MARKS if unicode else PLAIN_MARKS).get(state, "?")


def harmless(text: str) -> str:
    """A step's output for a terminal: colours stay, whatever else would steer the terminal goes."""
    kept = _SEQUENCES.sub(lambda found: found[0] if found[1] == "m" else "", text.translate(_EIGHT_BIT))
    return _CONTROLS.sub("", kept)


def last_of_line(text: str) -> str:
    """What a terminal would show of a line that was rewritten with carriage returns."""
    return text.rstrip("\r").rsplit("\r", 1)[-1]
