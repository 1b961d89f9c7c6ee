"""Following a job's logs: the truth so far, then live, without a gap, until the job is over."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from services.gateway.log_reading.live import LiveChunk
from services.gateway.log_reading.missing import AttemptLogs, Missing, missing_end
from services.gateway.log_reading.stamping import Times
from services.gateway.log_reading.truth import StepLog, pages
from shared.bus import Bus
from shared.requests import LogTold

LOOK_AGAIN_SECONDS = 5.0
"""The net under the live tail, which may miss a chunk that nothing follows."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one step's log, exactly behind the piece before."""

    epoch: int
    step: int
    offset: int
    data: bytes
    times: Times = ()
    missing: Missing | None = None
    """Just before these bytes; of a piece without bytes, at the log's end."""

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@dataclass(slots=True)
class Positions:
    """How far each step's log was shown. Decides what of a live chunk is new; does no I/O."""

    epoch: int
    offsets: dict[int, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)

    def take(self, live: LiveChunk) -> Piece | None:
        """The new part of a chunk. Ask `fits` first."""
        at = self.offsets.get(live.step, 0)
        chunk = live.chunk
        fresh = chunk.data[at - chunk.offset :] if chunk.end > at else b""
        if chunk.last:
            self.complete.add(live.step)
        if not fresh:
            return None
        self.offsets[live.step] = chunk.end
        return Piece(live.epoch, live.step, at, fresh, chunk.times)

    def fits(self, live: LiveChunk) -> bool:
        """False: something before it was missed."""
        return live.chunk.offset <= self.offsets.get(live.step, 0)

    def advance(self, step: int, end: int) -> None:
        self.offsets[step] = max(end, self.offsets.get(step, 0))


class Follow:
    """One follower of some steps of one attempt."""

    def __init__(self, bus: Bus, tenant: str, job: str, steps: range, positions: Positions) -> None:
        self._bus, self._tenant, self._job, self._steps = bus, tenant, job, steps
        self._ends: dict[int, LogTold] = {}
        self.positions = positions

    async def catch_up(self, *, over: bool) -> AsyncGenerator[Piece, None]:
        """What the truth has beyond the positions, in step order. `over`: the attempt is, and this is all there is."""
        for step in self._steps:
            if step in self.positions.complete:
                continue
            async for piece in self._catch_up_step(step, over=over):
                yield piece

    def missing_ends(self, facts: AttemptLogs) -> Iterator[Piece]:
        """What lacks of logs that will not go on. After `catch_up` of an attempt that is over."""
        for step in sorted(self._ends.keys() - self.positions.complete):
            told = self._ends[step]
            missing = missing_end(told, step, facts)
            if missing is not None:
                yield Piece(self.positions.epoch, step, told.end, b"", missing=missing)

    async def _catch_up_step(self, step: int, *, over: bool) -> AsyncGenerator[Piece, None]:
        log = StepLog(self._tenant, self._job, self.positions.epoch, step, over)
        at = self.positions.offsets.get(step, 0)
        async for page in pages(self._bus, log, at):
            self._ends[step] = page.told
            lost = page.told.offset - self.positions.offsets.get(step, 0)
            if page.data or lost > 0:
                self.positions.advance(step, page.end)
                missing = Missing(lost) if lost > 0 else None
                yield Piece(self.positions.epoch, step, page.told.offset, page.data, page.told.times, missing)
            if page.told.complete and page.is_last:
                self.positions.complete.add(step)

    @property
    def is_complete(self) -> bool:
        return all(step in self.positions.complete for step in self._steps)

    def is_gap(self, live: LiveChunk) -> bool:
        """Something before this chunk was missed: `catch_up` first."""
        return self._concerns(live) and not self.positions.fits(live)

    def take(self, live: LiveChunk) -> Piece | None:
        """What of a live chunk is new; None: nothing, or another log's."""
        return self.positions.take(live) if self._concerns(live) else None

    def _concerns(self, live: LiveChunk) -> bool:
        return live.epoch == self.positions.epoch and live.step in self._steps
