"""/v1/jobs/{job}/logs: bytes of one step (with Range), of the whole job (platform log first, then the steps in their
order), or live.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from services.gateway.desk import Caller, Desk, TheDesk
from services.gateway.log_reading.missing import AttemptLogs, Missing, missing_end
from services.gateway.log_reading.ranges import parse_range
from services.gateway.log_reading.stamping import Stamper
from services.gateway.log_reading.truth import PAGE_BYTES, Page, StepLog, pages, read_page
from services.gateway.refusals import BadRequest
from services.gateway.routes.answers import SERVER_SENT, header, problems
from services.gateway.routes.log_streams import FollowAsked, log_stream
from services.gateway.routes.reading_input import instant_ns
from services.gateway.sse import EventStream, resume_log
from shared.errors import NotFound
from shared.requests import LogTold

router = APIRouter(prefix="/v1/jobs", tags=["logs"])

TEXT = "text/plain; charset=utf-8"
_CONTENT = {
    "text/plain": {"schema": {"type": "string", "format": "binary"}},
    "text/event-stream": {
        "schema": SERVER_SENT,
        "example": 'id: 1:2=6\nevent: log\ndata: {"epoch": 1, "step": 2, "offset": 0, "text": "hello\\n"}\n\n',
    },
}
_HEADERS = {
    "Overspill-Log-Complete": {
        "schema": {"type": "string", "enum": ["true", "false"]},
        "description": "true: this is all that was written. false: it still grows, or bytes are missing",
    },
    "Overspill-Log-Missing": {
        "schema": {"type": "string", "pattern": r"^\d+\+?$"},
        "description": "of one step: bytes that were lost with their machine or are no longer kept; `12+`: at least "
        "12, how many nobody knows. Absent: none is known to be missing",
    },
}


@router.get(
    "/{job}/logs",
    responses={
        200: {"content": _CONTENT, "headers": _HEADERS, "description": "The log: docs/logs.md says how it is told"},
        206: {
            "description": "A range of it",
            "content": {"text/plain": _CONTENT["text/plain"]},
            "headers": {
                **_HEADERS,
                **header("Content-Range", "`bytes <first>-<last>/<length, * while the log grows>`"),
            },
        },
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
        return EventStream(log_stream(desk, asked), desk.followers.closed)
    if epoch is not None and epoch > record.epoch:
        raise NotFound(what="attempt", name=f"{epoch} of this job; its newest is {record.epoch}")
    at_epoch = record.epoch if epoch is None else epoch
    over = record.ended or at_epoch < record.epoch
    facts = await desk.reading.attempt_logs(record.tenant, job, at_epoch) if over else None
    logs = [StepLog(record.tenant, job, at_epoch, number, over) for number in steps]
    if step is None or timestamps or since_ms is not None or not range_:
        if range_ and step is not None:
            raise BadRequest(why="Range counts raw bytes: leave `timestamps` and `since` out, or leave Range out")
        return await _plain(desk, logs, facts, since_ms, Stamper if timestamps else None)
    return await _ranged(desk, logs[0], facts, range_)


async def _plain(
    desk: Desk, logs: list[StepLog], facts: AttemptLogs | None, since_ms: int | None, stamper: type[Stamper] | None
) -> Response:
    """`facts`: of an attempt that is over."""

    async def body() -> AsyncGenerator[bytes, None]:
        for log in logs:
            shown, told, stamping = 0, None, stamper() if stamper else None
            async for page in pages(desk.bus, log, since_unix_ms=since_ms):
                if page.told.offset > shown and since_ms is None:
                    yield _notice(Missing(page.told.offset - shown))
                shown, told = page.end, page.told
                data = page.data
                yield stamping.stamp(page.told.offset, data, page.told.times) if stamping else data
            missing = missing_end(told, log.step, facts) if told and facts else None
            if missing is not None:
                yield _notice(missing)

    headers = {"Overspill-Log-Epoch": str(logs[0].epoch)}
    if len(logs) == 1:
        headers |= _said((await read_page(desk.bus, logs[0], 0, 1)).told, logs[0], facts)
    else:
        # A runner tells an attempt's end once the bus has every byte of its logs.
        whole = facts is not None and (facts.told_by_runner or not facts.started)
        headers["Overspill-Log-Complete"] = "true" if whole else "false"
    # The first page is read before the answer begins: an absent collector is a 503, not a broken body.
    chunks = body()
    first = await anext(chunks, b"")
    return StreamingResponse(_after(first, chunks), headers=headers, media_type=TEXT)


def _said(told: LogTold, log: StepLog, facts: AttemptLogs | None) -> dict[str, str]:
    """What the headers say of one step's log."""
    end = missing_end(told, log.step, facts) if facts else None
    whole = (told.complete or facts is not None) and end is None and told.missing_bytes == 0
    headers = {"Accept-Ranges": "bytes", "Overspill-Log-Complete": "true" if whole else "false"}
    if end is not None or told.missing_bytes:
        count = told.missing_bytes + (end.count_bytes if end else 0)
        headers["Overspill-Log-Missing"] = f"{count}+" if end and end.at_least else str(count)
    return headers


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk


async def _ranged(desk: Desk, log: StepLog, facts: AttemptLogs | None, header: str) -> Response:
    known = (await read_page(desk.bus, log, 0, 1)).told
    headers = _said(known, log, facts)
    wanted = parse_range(header, known.end)
    start, end = wanted or (0, known.end)
    headers["Content-Length"] = str(end - start)
    if wanted is not None:
        # Of a log that still grows, or whose end is lost, the whole length isn't known.
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


def _notice(missing: Missing) -> bytes:
    """In place of what is missing."""
    return f"\n{missing.notice}\n".encode()
