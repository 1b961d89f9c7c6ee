"""Which log, which bytes of it, which object."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.errors import Poison
from shared.flow import LogAt, LogTo

OFFSET_DIGITS = 13
SUFFIX = ".zst"
END_SUFFIX = ".end.zst"


class LogId(NamedTuple):
    """One step's log of one attempt."""

    tenant: str
    job: str
    epoch: int
    step: int

    @classmethod
    def of(cls, at: LogAt) -> "LogId":
        return cls(at.tenant, at.job, at.epoch, at.step)

    @property
    def prefix(self) -> str:
        return f"{attempt_prefix(self.tenant, self.job, self.epoch)}{self.step}/"

    @property
    def subject(self) -> str:
        return str(LogTo(self.tenant, self.job, self.epoch, self.step))


def logs_prefix(tenant: str) -> str:
    return f"t/{tenant}/logs/"


def job_prefix(tenant: str, job: str) -> str:
    return f"{logs_prefix(tenant)}{job}/"


def attempt_prefix(tenant: str, job: str, epoch: int) -> str:
    return f"{job_prefix(tenant, job)}{epoch}/"


class Span(NamedTuple):
    """Bytes [start, end)."""

    start: int
    end: int


@dataclass(slots=True)
class Spans:
    """A set of bytes: sorted, disjoint, never touching spans."""

    items: list[Span] = field(default_factory=list)

    def add(self, span: Span) -> None:
        start, end = span
        if start >= end:
            return
        if self.items and self.items[-1].end == start:
            self.items[-1] = Span(self.items[-1].start, end)
            return
        first = bisect.bisect_left(self.items, start, key=lambda item: item.end)
        after = bisect.bisect_right(self.items, end, key=lambda item: item.start)
        if first < after:
            start, end = min(start, self.items[first].start), max(end, self.items[after - 1].end)
        self.items[first:after] = [Span(start, end)]

    def without(self, span: Span) -> Iterator[Span]:
        """What of `span` is not in the set, ascending."""
        position = span.start
        first = bisect.bisect_right(self.items, span.start, key=lambda item: item.end)
        for item in self.items[first:]:
            if item.start >= span.end:
                break
            if item.start > position:
                yield Span(position, item.start)
            position = max(position, item.end)
        if position < span.end:
            yield Span(position, span.end)

    def covers(self, span: Span) -> bool:
        return next(self.without(span), None) is None

    @property
    def prefix_end(self) -> int:
        """Bytes from 0 without a gap."""
        return self.items[0].end if self.items and self.items[0].start == 0 else 0

    @property
    def end(self) -> int:
        return self.items[-1].end if self.items else 0


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """What a part's key says: the bytes it holds, when the first of them came, whether the log ends with it.

    And the object's own size, since a store may keep a cut object when its writer dies (SeaweedFS does, an empty one);
    and who wrote it, so that no writer ever replaces another's object.
    """

    start: int
    end: int
    first_unix_ms: int
    size_bytes: int
    writer: str
    ends: bool = False

    def key(self, log: LogId) -> str:
        digits = OFFSET_DIGITS
        span = f"{self.start:0{digits}d}-{self.end:0{digits}d}-{self.first_unix_ms:0{digits}d}"
        return f"{log.prefix}{span}-{self.size_bytes}-{self.writer}{END_SUFFIX if self.ends else SUFFIX}"

    @classmethod
    def read(cls, key: str) -> "PartName":
        """Raises Poison when it is no part's key."""
        name = key.rpartition("/")[2]
        ends = name.endswith(END_SUFFIX)
        try:
            *numbers, writer = name.removesuffix(END_SUFFIX if ends else SUFFIX).split("-")
            start, end, first, size = (int(text) for text in numbers)
        except ValueError as error:
            raise Poison(why=f"{key!r} is no part of a log") from error
        return cls(start, end, first, size, writer, ends)

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are not in the object store yet, and the newest message they came with."""

    start: int
    data: bytes
    times: tuple[tuple[int, int], ...]
    """(offset in the log, unix milliseconds), ascending, the first at `start`."""
    seq: int
    at: float
    """Since when it waits: seconds, monotonic."""

    @property
    def end(self) -> int:
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True)
class End:
    """What the last chunk said of the whole log."""

    total: int
    sha256: str | None
    seq: int
