"""/v1/status: is the platform well, and what do the four figures say."""

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.desk import Caller, TheDesk
from services.gateway.figures.views import StatusView
from services.gateway.routes.answers import problems, show
from services.gateway.routes.platform import missing

router = APIRouter(prefix="/v1", tags=["platform"])


@router.get("/status", response_model=StatusView, responses=problems())
async def get_status(caller: Caller, desk: TheDesk) -> Response:
    """What is wrong, if anything, and stability, speed, cost and refusals over the last hour, day and week.

    A tenant sees its own jobs and refusals; an operator everybody's, with idle capacity and dead letters.
    """
    return show(await desk.status.of(caller, missing(desk)))
