"""Time as an argument: the one place that reads clocks."""

import time
from datetime import UTC, datetime
from typing import NewType, Protocol

Instant = NewType("Instant", float)
"""Seconds since the Unix epoch, UTC."""


class Clock(Protocol):
    """`now` may jump with the wall clock; `monotonic` (seconds, no epoch) never goes back."""

    def now(self) -> Instant: ...

    def monotonic(self) -> float: ...


class SystemClock:
    def now(self) -> Instant:
        return Instant(time.time())

    def monotonic(self) -> float:
        return time.monotonic()


def iso(instant: float) -> str:
    """RFC 3339 in UTC with milliseconds, as the API shows it."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
