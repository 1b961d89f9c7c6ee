"""/v1/jobs/{job}/logs: bytes of one step (with Range), of the whole job (platform log first, then the steps in their
order), or live.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from services.gateway.desk import Caller, Desk, TheDesk
from services.gateway.log_reading.ranges import parse_range
from services.gateway.log_reading.stamping import Stamper
from services.gateway.log_reading.truth import PAGE_BYTES, Page, StepLog, pages, read_page
from services.gateway.refusals import BadRequest
from services.gateway.routes.answers import problems
from services.gateway.routes.log_streams import FollowAsked, log_stream
from services.gateway.routes.reading_input import instant_ns
from services.gateway.sse import EventStream, resume_log
from shared.errors import NotFound
from shared.facts import JobRecord

router = APIRouter(prefix="/v1/jobs", tags=["logs"])

TEXT = "text/plain; charset=utf-8"
_CONTENT = {
    "text/plain": {"schema": {"type": "string", "format": "binary"}},
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": 'id: 1:2=6\nevent: log\ndata: {"epoch": 1, "step": 2, "offset": 0, "text": "hello\\n"}\n\n',
    },
}


@router.get(
    "/{job}/logs",
    responses={
        200: {"content": _CONTENT, "description": "`Overspill-Log-Complete` says whether more will come"},
        206: {"content": {"text/plain": _CONTENT["text/plain"]}},
        **problems(404, 416),
    },
)
async def get_logs(
    job: str,
    caller: Caller,
    desk: TheDesk,
    step: Annotated[int | None, Query(ge=0, le=999, description="0: the platform's own; absent: the whole job")] = None,
    epoch: Annotated[int | None, Query(ge=1, le=999, description="attempt; the newest when absent")] = None,
    follow: Annotated[bool, Query(description="server-sent events until the job is over")] = False,  # noqa: FBT002
    since: Annotated[str | None, Query(max_length=40, description="from this instant on: RFC 3339 or unix")] = None,
    timestamps: Annotated[bool, Query(description="each line with the time it came")] = False,  # noqa: FBT002
    range_: Annotated[str | None, Header(alias="Range", description="bytes of one step's log")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """What the steps wrote. Bytes that were lost with their machine appear as a notice, in a range as NULs."""
    record = (await desk.picture(caller.tenant, job)).record
    if step is not None and step > record.step_count:
        raise NotFound(what=f"step {step} in job {job}; its last is", name=record.step_count)
    since_ns = instant_ns("since", since)
    since_ms = since_ns // 1_000_000 if since_ns is not None else None
    steps = range(record.step_count + 1) if step is None else range(step, step + 1)
    if follow:
        asked = FollowAsked(caller.tenant, job, steps, epoch, since_ms, resume_log(last_event_id))
        desk.followers.check((caller.tenant, job))
        return EventStream(log_stream(desk, asked))
    if epoch is not None and epoch > record.epoch:
        raise NotFound(what="attempt", name=f"{epoch} of this job; its newest is {record.epoch}")
    at_epoch = record.epoch if epoch is None else epoch
    if step is None or timestamps or since_ms is not None or not range_:
        if range_ and step is not None:
            raise BadRequest(why="Range counts raw bytes: leave `timestamps` and `since` out, or leave Range out")
        return await _plain(desk, record, at_epoch, steps, since_ms, Stamper if timestamps else None)
    return await _ranged(desk, StepLog(record.tenant, record.job, at_epoch, step), range_)


async def _plain(
    desk: Desk, record: JobRecord, epoch: int, steps: range, since_ms: int | None, stamper: type[Stamper] | None
) -> Response:
    async def body() -> AsyncGenerator[bytes, None]:
        for step in steps:
            log, shown = StepLog(record.tenant, record.job, epoch, step), 0
            stamping = stamper() if stamper else None
            async for page in pages(desk.bus, log, since_unix_ms=since_ms):
                if page.told.offset > shown and since_ms is None:
                    yield notice(page.told.offset - shown)
                shown = page.end
                data = page.data
                yield stamping.stamp(page.told.offset, data, page.told.times) if stamping else data

    headers = {"Overspill-Log-Complete": "true" if record.ended else "false", "Overspill-Log-Epoch": str(epoch)}
    if len(steps) == 1:
        headers["Accept-Ranges"] = "bytes"
    # The first page is read before the answer begins: an absent collector is a 503, not a broken body.
    chunks = body()
    first = await anext(chunks, b"")
    return StreamingResponse(_after(first, chunks), headers=headers, media_type=TEXT)


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk


async def _ranged(desk: Desk, log: StepLog, header: str) -> Response:
    known = (await read_page(desk.bus, log, 0, 1)).told
    headers = {"Accept-Ranges": "bytes", "Overspill-Log-Complete": "true" if known.complete else "false"}
    wanted = parse_range(header, known.end)
    start, end = wanted or (0, known.end)
    headers["Content-Length"] = str(end - start)
    if wanted is not None:
        # Of a log that still grows the whole length isn't known.
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{known.end if known.complete else '*'}"
    content = _exactly(desk, log, start, end)
    return StreamingResponse(content, 206 if wanted else 200, headers=headers, media_type=TEXT)


async def _exactly(desk: Desk, log: StepLog, start: int, end: int) -> AsyncGenerator[bytes, None]:
    """As many bytes as were promised: what is lost is NULs, so that offsets stay true."""
    at = start
    async for page in pages(desk.bus, log, start, end):
        for part in _fill(page, at, end):
            at += len(part)
            yield part
    while at < end:
        lost = min(PAGE_BYTES, end - at)
        at += lost
        yield bytes(lost)


def _fill(page: Page, at: int, end: int) -> list[bytes]:
    hole = max(0, min(page.told.offset, end) - at)
    parts = [bytes(min(PAGE_BYTES, hole - begin)) for begin in range(0, hole, PAGE_BYTES)]
    begin = max(0, at + hole - page.told.offset)
    data = page.data[begin : max(begin, end - page.told.offset)]
    return [*parts, data] if data else parts


def notice(missing_bytes: int) -> bytes:
    """In place of what is lost."""
    return f"\n[overspill: {missing_bytes} bytes of this log were lost with their machine]\n".encode()
