"""What operators of the platform need: what was buried."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.buried import newest
from services.gateway.desk import Operator, TheDesk
from services.gateway.presenting import time_of
from services.gateway.refusals import BadRequest
from services.gateway.routes.answers import problems, show
from services.gateway.views import BuriedPage, BuriedView
from shared.burying import SIZE, SUBJECT, WHY
from shared.bus import Message
from shared.clock import iso
from shared.flow import Buried
from shared.ids import is_token

router = APIRouter(prefix="/v1", tags=["operating"])

SHOWN_CHARACTERS = 400


@router.get("/dlq", response_model=BuriedPage, responses=problems())
async def list_buried(
    caller: Operator,
    desk: TheDesk,
    service: Annotated[str | None, Query(max_length=40, description="who buried it")] = None,
    sender: Annotated[str | None, Query(max_length=40, description="tenant or cluster it came from")] = None,
    before: Annotated[int | None, Query(ge=1, le=10**18, description="`next_before` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Messages nobody could handle, newest first, with why."""
    del caller
    known = {name: value for name, value in (("service", service), ("sender", sender)) if value is not None}
    if not all(is_token(value) for value in known.values()):
        raise BadRequest(why="service and sender are names such as `gateway` and `default`")
    found = await newest(desk.bus, Buried.filter(**known), limit + 1, before)
    page = found[:limit]
    more = page[-1].seq if len(found) > limit else None
    return show(BuriedPage(buried=[_view(message) for message in page], next_before=more))


def _view(message: Message) -> BuriedView:
    about = Buried.parse(message.subject)
    said = message.headers.get(SIZE, "")
    return BuriedView(
        id=message.seq,
        service=about.service,
        sender=about.sender,
        subject=message.headers.get(SUBJECT, ""),
        why=message.headers.get(WHY, ""),
        size_bytes=int(said) if said.isascii() and said.isdigit() else len(message.data),
        time=time_of(message.time_unix_ns) or iso(0),
        beginning=message.data[:SHOWN_CHARACTERS].decode(errors="replace"),
    )
