"""A followed log as server-sent events: `log` pieces, `attempt` when one begins, `delayed` while the log can't be read,
`end` when the job is over or the one log that was asked for is whole.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.gateway.desk import Desk
from services.gateway.log_reading.following import LOOK_AGAIN_SECONDS, Follow, Piece, Positions
from services.gateway.log_reading.live import LiveChunk, Waiting, Wake
from services.gateway.log_reading.truth import StepLog, read_page
from services.gateway.sse import KEEP_ALIVE, bytes_field, log_id, sse
from services.gateway.standing import newest_record
from shared.errors import NotFound, Unavailable
from shared.facts import JobRecord


@dataclass(frozen=True, slots=True)
class FollowAsked:
    tenant: str
    job: str
    steps: range
    epoch: int | None
    """None: the newest attempt, and the one after it."""
    since_ms: int | None
    resume: tuple[int, dict[int, int]] | None


async def log_stream(desk: Desk, asked: FollowAsked) -> AsyncGenerator[bytes, None]:
    yield KEEP_ALIVE
    key = (asked.tenant, asked.job)
    try:
        async with desk.live.follow(key) as waiting:
            with desk.followers.follow(key, waiting):
                async for event in _Stream(desk, asked, waiting).events():
                    yield event
    except Unavailable as error:
        # The stream ends without `end`: its client comes again with the last id it saw.
        yield sse("delayed", {"detail": str(error)})


class _Stream:
    def __init__(self, desk: Desk, asked: FollowAsked, waiting: Waiting) -> None:
        self._desk, self._asked, self._waiting = desk, asked, waiting
        self._follow: Follow | None = None
        self._must_look = True
        self._over = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        while not self._desk.followers.closing:
            try:
                record = await self._record()
                async for event in self._catch_up(record):
                    yield event
            except Unavailable as error:
                self._must_look = True
                yield sse("delayed", {"detail": str(error)})
            except NotFound:
                yield sse("end", {"id": self._asked.job, "state": "deleted", "epoch": self._epoch})
                return
            else:
                if self._over:
                    yield sse("end", {"id": record.job, "state": record.state.value, "epoch": record.epoch})
                    return
                if self._asked.epoch is None and record.epoch > self._epoch:
                    continue
            async for event in self._live():
                yield event

    @property
    def _epoch(self) -> int:
        return self._follow.positions.epoch if self._follow else 0

    async def _record(self) -> JobRecord:
        tenant, job = self._asked.tenant, self._asked.job
        record = await self._desk.reading.record(tenant, job) or await newest_record(self._desk.bus, tenant, job)
        if record is None:
            raise NotFound(what="job", name=job)
        return record

    async def _catch_up(self, record: JobRecord) -> AsyncGenerator[bytes, None]:
        """Show what the truth has, where it must be asked: at the beginning, after a gap, at the end."""
        wanted = record.epoch if self._asked.epoch is None else self._asked.epoch
        if self._follow is None and wanted > 0:
            self._follow = await self._begin(wanted)
            yield self._attempt()
        follow = self._follow
        passed = record.ended or record.epoch > self._epoch
        if follow is not None and (self._must_look or passed):
            async for piece in follow.catch_up(over=passed):
                yield self._log(piece)
            if passed:
                facts = await self._desk.reading.attempt_logs(self._asked.tenant, self._asked.job, self._epoch)
                for piece in follow.missing_ends(facts):
                    yield self._log(piece)
        self._must_look = False
        if follow is not None and not record.ended and record.epoch > self._epoch and self._asked.epoch is None:
            self._follow, self._must_look = await self._begin(record.epoch), True
            yield self._attempt()
            return
        whole = follow is not None and follow.is_complete and len(self._asked.steps) == 1
        self._over = record.ended or whole or (passed and self._asked.epoch is not None)

    async def _begin(self, epoch: int) -> Follow:
        asked, positions = self._asked, Positions(epoch)
        if asked.resume is not None and asked.resume[0] == epoch:
            positions.offsets = {step: at for step, at in asked.resume[1].items() if step in asked.steps}
        elif asked.since_ms is not None:
            for step in asked.steps:
                page = await read_page(
                    self._desk.bus, StepLog(asked.tenant, asked.job, epoch, step), 0, 1, asked.since_ms
                )
                positions.advance(step, page.told.offset)
        return Follow(self._desk.bus, asked.tenant, asked.job, asked.steps, positions)

    async def _live(self) -> AsyncGenerator[bytes, None]:
        """Live chunks as they come, until there is a reason to look at the job or the truth."""
        while not self._desk.followers.closing:
            wake = await self._waiting.next(LOOK_AGAIN_SECONDS)
            if wake is Wake.JOB_CHANGED:
                return
            if wake is Wake.MISSED or self._follow is None:
                self._must_look = True
                yield KEEP_ALIVE
                return
            if isinstance(wake, LiveChunk):
                if self._follow.is_gap(wake):
                    self._must_look = True
                    return
                piece = self._follow.take(wake)
                if piece is not None:
                    yield self._log(piece)
                if self._follow.is_complete:
                    return

    def _attempt(self) -> bytes:
        follow = self._follow
        offsets = follow.positions.offsets if follow else {}
        return sse("attempt", {"epoch": self._epoch}, log_id(self._epoch, offsets))

    def _log(self, piece: Piece) -> bytes:
        offsets = self._follow.positions.offsets if self._follow else {}
        data: dict[str, object] = {
            "epoch": piece.epoch,
            "step": piece.step,
            "offset": piece.offset,
            **bytes_field(piece.data),
        }
        if piece.times:
            data["times"] = piece.times
        if piece.missing is not None:
            data |= {
                "missing_bytes": piece.missing.count_bytes,
                "missing_at_least": piece.missing.at_least,
                "notice": piece.missing.notice,
            }
        return sse("log", data, log_id(piece.epoch, offsets))
