"""What becomes of chunks: pure, no I/O; time (seconds, monotonic) is an argument.

A buffer holds what is not durable. `append` takes a chunk in whatever order, as often as it comes; `decide` says what
to write next; `wrote` and `failed` say how that went. At most one write of a log is under way.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.log_collector.model import End, Piece, Span, Spans
from shared.facts.log import LogChunk

PIECE_OVERHEAD_BYTES = 400
"""What a waiting piece costs besides its bytes: a runner that sends single bytes can't fill the memory either."""


@dataclass(frozen=True, slots=True)
class Limits:
    part_bytes: int
    age_seconds: float
    hole_seconds: float


@dataclass(frozen=True, slots=True)
class Write:
    """Store these adjoining pieces as one part. With `end`, the log ends here; without pieces, it is a mark alone."""

    start: int
    pieces: tuple[Piece, ...]
    end: End | None = None

    @property
    def stop(self) -> int:
        return self.pieces[-1].end if self.pieces else self.start


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to do before this instant, unless more comes."""

    instant: float


@dataclass(slots=True)
class LogBuffer:
    """What is known of one log."""

    durable: Spans = field(default_factory=Spans)
    waiting: list[Piece] = field(default_factory=list)
    writing: Write | None = None
    gap_since: float | None = None
    """Since when bytes are missing before others that came."""
    end: End | None = None
    ended: bool = False
    """The end is durable, too."""
    flush: bool = False
    """Write whatever waits, now."""
    held_bytes: int = 0
    """Memory that what is not durable takes."""
    known_bytes: int = 0
    top: int = 0
    """The highest offset heard of; fewer known bytes than that means a gap."""
    written_bytes: int = 0
    """How long the log is on its machine, as far as that was told; never less than what came."""

    @classmethod
    def stored(cls, durable: Spans, total: int | None, gap_since: float) -> "LogBuffer":
        """As the object store knows the log."""
        buffer = cls(durable=durable, end=None if total is None else End(total, None, 0), ended=total is not None)
        buffer.known_bytes = sum(end - start for start, end in durable.items)
        buffer.top = max(durable.end, total or 0)
        buffer.written_bytes = buffer.top
        _watch_gap(buffer, gap_since)
        return buffer

    def known(self) -> Spans:
        """Every byte that can be read now."""
        known = Spans(list(self.durable.items))
        for piece in self.unwritten():
            known.add(Span(piece.start, piece.end))
        return known

    def unwritten(self) -> Iterator[Piece]:
        if self.writing is not None:
            yield from self.writing.pieces
        yield from self.waiting

    def oldest_seq(self) -> int | None:
        """The oldest message that must come again if we die now."""
        seqs = [piece.seq for piece in self.unwritten()]
        if self.end is not None and not self.ended:
            seqs.append(self.end.seq)
        return min(seqs, default=None)

    @property
    def complete(self) -> bool:
        """The end is known, and all before it is durable."""
        return self.ended and self.end is not None and self.durable.covers(Span(0, self.end.total))

    @property
    def is_whole(self) -> bool:
        """The end is known, and all before it can be read."""
        return self.end is not None and self.known_bytes >= self.end.total

    @property
    def idle(self) -> bool:
        return self.writing is None and not self.waiting and (self.end is None or self.ended)


def append(buffer: LogBuffer, chunk: LogChunk, seq: int, arrived_unix_ms: int, now: float) -> None:
    """Take what the chunk has that isn't there yet.

    `arrived_unix_ms`: for bytes of which the chunk doesn't say when they came.
    """
    if chunk.total is not None and buffer.end is None:
        buffer.end = End(chunk.total, chunk.sha256, seq)
        buffer.top = max(buffer.top, chunk.total)
    stop = chunk.end if buffer.end is None else min(chunk.end, buffer.end.total)
    times = chunk.times
    if not times or times[0][0] > chunk.offset:
        times = ((chunk.offset, arrived_unix_ms), *times)
    for start, end in _fresh(buffer, Span(chunk.offset, stop)):
        data = chunk.data[start - chunk.offset : end - chunk.offset]
        piece = Piece(start, data, _times_within(times, start, end), seq, now)
        bisect.insort(buffer.waiting, piece, key=lambda other: other.start)
        buffer.held_bytes += len(data) + PIECE_OVERHEAD_BYTES
        buffer.known_bytes += len(data)
        buffer.top = max(buffer.top, end)
    buffer.written_bytes = max(buffer.written_bytes, buffer.top, chunk.written_bytes)
    _watch_gap(buffer, now)


def pass_over(buffer: LogBuffer, chunk: LogChunk, now: float) -> None:
    """Take of the chunk only that it is there. For a buffer that writes nothing."""
    if chunk.total is not None and buffer.end is None:
        buffer.end = End(chunk.total, chunk.sha256, 0)
    for start, end in _fresh(buffer, Span(chunk.offset, chunk.end)):
        buffer.durable.add(Span(start, end))
        buffer.known_bytes += end - start
    buffer.top = max(buffer.top, chunk.end)
    buffer.written_bytes = max(buffer.written_bytes, buffer.top, chunk.written_bytes)
    _watch_gap(buffer, now)


def _fresh(buffer: LogBuffer, span: Span) -> list[Span]:
    newest = max(buffer.durable.end, max((piece.end for piece in _lasts(buffer)), default=0))
    if span.start >= newest:
        return [span] if span.end > span.start else []
    return list(buffer.known().without(span))


def _lasts(buffer: LogBuffer) -> Iterator[Piece]:
    if buffer.writing is not None and buffer.writing.pieces:
        yield buffer.writing.pieces[-1]
    if buffer.waiting:
        yield buffer.waiting[-1]


def _times_within(times: tuple[tuple[int, int], ...], start: int, end: int) -> tuple[tuple[int, int], ...]:
    """The arrivals of [start, end); the first says when the byte at `start` came."""
    inside = [(offset, ms) for offset, ms in times if start < offset < end]
    before = [ms for offset, ms in times if offset <= start]
    return ((start, before[-1] if before else times[0][1]), *inside)


def _watch_gap(buffer: LogBuffer, now: float) -> None:
    if buffer.known_bytes >= buffer.top:
        buffer.gap_since = None
    elif buffer.gap_since is None:
        buffer.gap_since = now


def decide(buffer: LogBuffer, now: float, limits: Limits) -> Write | WaitUntil | None:
    """What to write now; or when to ask again; or None: nothing waits, or a write is under way."""
    if buffer.writing is not None:
        return None
    if not buffer.waiting:
        return _decide_end(buffer, now, limits)
    run = _first_run(buffer.waiting, limits.part_bytes)
    closes = _closes(buffer, run)
    full = buffer.held_bytes >= limits.part_bytes
    due_at = min(piece.at for piece in buffer.waiting) + limits.age_seconds
    if full or closes or buffer.flush or now >= due_at:
        return Write(run[0].start, tuple(run), buffer.end if closes else None)
    return WaitUntil(due_at)


def _first_run(waiting: list[Piece], part_bytes: int) -> list[Piece]:
    run: list[Piece] = []
    for piece in waiting:
        if run and (piece.start != run[-1].end or piece.end - run[0].start > part_bytes):
            break
        run.append(piece)
    return run


def _closes(buffer: LogBuffer, run: list[Piece]) -> bool:
    """The log ends with this run, and all before it is durable."""
    if buffer.end is None or buffer.ended:
        return False
    return run[-1].end == buffer.end.total and buffer.durable.covers(Span(0, run[0].start))


def _decide_end(buffer: LogBuffer, now: float, limits: Limits) -> Write | WaitUntil | None:
    if buffer.end is None or buffer.ended:
        return None
    given_up_at = now if buffer.gap_since is None else buffer.gap_since + limits.hole_seconds
    return Write(buffer.end.total, (), buffer.end) if now >= given_up_at else WaitUntil(given_up_at)


def start(buffer: LogBuffer, write: Write) -> None:
    """`write` is under way."""
    buffer.writing = write
    del buffer.waiting[: len(write.pieces)]


def wrote(buffer: LogBuffer, now: float) -> None:
    """The write under way is durable."""
    write = buffer.writing
    if write is None:
        raise ValueError("no write is under way")
    buffer.durable.add(Span(write.start, write.stop))
    buffer.held_bytes -= sum(len(piece.data) + PIECE_OVERHEAD_BYTES for piece in write.pieces)
    buffer.ended = buffer.ended or write.end is not None
    buffer.writing = None
    buffer.flush = buffer.flush and not buffer.idle
    _watch_gap(buffer, now)


def failed(buffer: LogBuffer) -> None:
    """The write under way may not have happened: its pieces wait again."""
    write = buffer.writing
    if write is None:
        raise ValueError("no write is under way")
    buffer.waiting[:0] = write.pieces
    buffer.waiting.sort(key=lambda piece: piece.start)
    buffer.writing = None


def holes(buffer: LogBuffer, now: float, limits: Limits) -> list[Span]:
    """Bytes that are given up: others after them came long ago, or the log ended without them."""
    if not (buffer.ended or (buffer.gap_since is not None and now >= buffer.gap_since + limits.hole_seconds)):
        return []
    return list(buffer.known().without(Span(0, buffer.top)))
