"""A page of a log, from its parts and from what is not stored yet."""

import bisect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from services.log_collector.model import PartName, Piece, Span, Spans
from services.log_collector.parts import Part
from shared.requests import LogAsked, LogTold

MAX_TIMES = 8192
"""Times in one answer: it ends sooner when they are many, so that its header stays small."""

Fetch = Callable[[PartName], Awaitable[Part]]
Source = Part | Piece


@dataclass(frozen=True, slots=True)
class View:
    """A log at one instant. `holes`: bytes that were given up; `total` once its end is known."""

    parts: Sequence[PartName]
    pieces: Sequence[Piece]
    holes: Sequence[Span] = ()
    total: int | None = None
    written_bytes: int = 0
    """How long the log is on its machine, as far as memory knows."""
    elsewhere: Sequence[Span] = ()
    """Bytes that are there, but not in this view: ask again from where it ends."""

    def reach(self) -> int:
        """How far one can read: to the end, or to bytes that are still awaited."""
        known = Spans()
        for start, end in sorted(
            [*self.holes, *self.elsewhere, *(part.span for part in self.parts), *_spans(self.pieces)]
        ):
            known.add(Span(start, end))
        return known.prefix_end


def _spans(pieces: Iterable[Piece]) -> Iterable[Span]:
    return (Span(piece.start, piece.end) for piece in pieces)


async def read(view: View, asked: LogAsked, fetch: Fetch) -> tuple[bytes, LogTold]:
    """Raises Unavailable, and NotFound when a part was replaced meanwhile."""
    reach = view.reach()
    begin = asked.offset
    if asked.since_unix_ms is not None:
        begin = max(begin, await _first_since(view, asked.since_unix_ms, reach, fetch))
    for hole in view.holes:
        if hole.start <= begin < hole.end:
            begin = hole.end
    data, times, verified = await _collect(view, begin, min(begin + asked.limit_bytes, reach), fetch)
    complete = view.total is not None and reach >= view.total
    if complete and begin + len(data) >= reach and verified is None:
        verified = await _verdict(view, fetch)
    return data, LogTold(
        offset=begin,
        end=reach,
        complete=complete,
        times=times,
        missing_bytes=sum(end - start for start, end in view.holes),
        written_bytes=await _written(view, reach, fetch) if asked.over and not complete else reach,
        verified=verified,
    )


async def _written(view: View, reach: int, fetch: Fetch) -> int:
    """What the newest part knows of it counts too: memory may not go back that far."""
    newest = max(view.parts, key=lambda name: name.end, default=None)
    stored = (await fetch(newest)).written_bytes if newest is not None else 0
    return max(view.written_bytes, stored, reach)


async def _verdict(view: View, fetch: Fetch) -> bool | None:
    for name in view.parts:
        if name.ends:
            verdict = (await fetch(name)).verdict
            return verdict.verified if verdict else None
    return None


async def _collect(view: View, begin: int, stop: int, fetch: Fetch) -> tuple[bytes, list[tuple[int, int]], bool | None]:
    position, data, times = begin, [], list[tuple[int, int]]()
    verified: bool | None = None
    while position < stop:
        source = await _source_at(view, position, fetch)
        if source is None:
            break
        end = min(source.end, stop)
        inside = times_of(source, position, end)
        if len(times) + len(inside) > MAX_TIMES:
            inside = inside[: MAX_TIMES - len(times) + 1]
            end = inside.pop()[0] if len(inside) > 1 else position
        times += inside
        data.append(source.data[position - source.start : end - source.start])
        if isinstance(source, Part) and source.verdict is not None:
            verified = source.verdict.verified
        position = end
        if len(times) >= MAX_TIMES or not data[-1]:
            break
    return b"".join(data), times, verified


async def _source_at(view: View, position: int, fetch: Fetch) -> Source | None:
    for piece in view.pieces:
        if piece.start <= position < piece.end:
            return piece
    for name in view.parts:
        if name.start <= position < name.end:
            return await fetch(name)
    return None


def times_of(source: Source, start: int, end: int) -> list[tuple[int, int]]:
    """When [start, end) came: the first pair is at `start`."""
    first = bisect.bisect_right(source.times, start, key=lambda pair: pair[0])
    last = bisect.bisect_left(source.times, end, key=lambda pair: pair[0])
    came = source.times[max(first - 1, 0)][1] if source.times else 0
    return [(start, came), *source.times[first:last]]


async def _first_since(view: View, since_unix_ms: int, reach: int, fetch: Fetch) -> int:
    """The first byte that came at or after the instant; `reach` when none did."""
    sources: list[tuple[int, int, PartName | Piece]] = sorted(
        [
            *((name.start, name.first_unix_ms, name) for name in view.parts if name.end > name.start),
            *((piece.start, piece.times[0][1], piece) for piece in view.pieces),
        ],
        key=lambda item: item[0],
    )
    after = next((index for index, (_, ms, _) in enumerate(sources) if ms >= since_unix_ms), len(sources))
    if after > 0:
        # It may begin within the one before.
        found = sources[after - 1][2]
        source: Source = found if isinstance(found, Piece) else await fetch(found)
        for offset, ms in source.times:
            if ms >= since_unix_ms:
                return offset
    return sources[after][0] if after < len(sources) else reach
