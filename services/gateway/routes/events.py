"""/v1/jobs/{job}/events: the job's facts, from the first to the verdict, as they come."""

from collections.abc import AsyncGenerator
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from services.gateway.desk import Caller, Desk, TheDesk
from services.gateway.presenting import time_of
from services.gateway.projection.followers import News
from services.gateway.projection.reading import Event
from services.gateway.routes.answers import SERVER_SENT, problems, show
from services.gateway.sse import KEEP_ALIVE, EventStream, resume_seq, sse
from services.gateway.standing import newest_record
from services.gateway.views import EventPage, EventView
from shared.clock import iso
from shared.facts import JobRecord
from shared.wire import decode

router = APIRouter(prefix="/v1/jobs", tags=["events"])

PAGE = 200


@router.get(
    "/{job}/events",
    responses={
        200: {
            "content": {
                "text/event-stream": {
                    "schema": SERVER_SENT,
                    "example": 'id: 17\nevent: overspill.step.started.v1\ndata: {"id": 17, "epoch": 1}\n\n',
                },
                "application/json": {"schema": {"$ref": "#/components/schemas/EventPage"}},
            }
        },
        **problems(404),
    },
)
async def get_events(
    job: str,
    caller: Caller,
    desk: TheDesk,
    accept: Annotated[str, Header()] = "text/event-stream",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    after: Annotated[int, Query(ge=0, le=10**18, description="the same as Last-Event-ID, for lists")] = 0,
) -> Response:
    """Server-sent events; the last one is `end`. With `Accept: application/json` a list of what there is."""
    record = (await desk.picture(caller.tenant, job)).record
    position = max(after, resume_seq(last_event_id))
    if "application/json" in accept.lower():
        rows = await desk.reading.events(caller.tenant, job, position, PAGE)
        return show(EventPage(events=[_view(row) for row in rows], complete=record.ended and len(rows) < PAGE))
    desk.followers.check((caller.tenant, job))
    return EventStream(_stream(desk, caller.tenant, job, position), desk.followers.closed)


async def _stream(desk: Desk, tenant: str, job: str, position: int) -> AsyncGenerator[bytes, None]:
    yield KEEP_ALIVE
    news = News()
    with desk.followers.follow((tenant, job), news):
        while not desk.followers.closing:
            # The state is read before the events: whatever led to it is then among them.
            record = await desk.reading.record(tenant, job)
            rows = await desk.reading.events(tenant, job, position, PAGE)
            for row in rows:
                position = row.seq
                yield sse(row.type, _view(row).model_dump(), row.seq)
            if len(rows) == PAGE:
                continue
            if record is not None and record.ended:
                yield sse("end", _end(record))
                return
            if record is None and await newest_record(desk.bus, tenant, job) is None:
                yield sse("end", {"id": job, "state": "deleted"})
                return
            if not await news.wait(desk.settings.keep_alive_seconds):
                yield KEEP_ALIVE


def _end(record: JobRecord) -> dict[str, object]:
    return {
        "id": record.job,
        "state": record.state.value,
        "reason": record.reason.value if record.reason else None,
        "message": record.message,
        "exit_code": record.exit_code,
    }


def _view(row: Event) -> EventView:
    data = orjson.loads(row.data)
    # How the record is kept is not part of what happened.
    if row.type == JobRecord.event_type():
        data = decode(JobRecord, row.data).model_dump(
            mode="json", exclude_none=True, exclude={"write_id", "content_hash", "term"}
        )
    return EventView(id=row.seq, type=row.type, epoch=row.epoch, time=time_of(row.time_ns) or iso(0), data=data)
