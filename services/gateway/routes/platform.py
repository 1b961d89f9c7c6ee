"""/v1/me, the spec's schema, health and readiness."""

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.desk import Caller, Desk, TheDesk
from services.gateway.routes.answers import problems, show
from services.gateway.views import MeView, ReadyView
from shared.spec import JobSpec

router = APIRouter()


@router.get("/v1/me", response_model=MeView, responses=problems(), tags=["platform"])
async def get_me(caller: Caller, desk: TheDesk) -> Response:
    """Who this credential is, and what its tenant may use."""
    tenant = desk.directory.tenant(caller.tenant)
    return show(
        MeView(
            tenant=caller.tenant,
            subject=caller.subject,
            role=caller.role.value,
            display_name=tenant.display_name,
            namespaces=tenant.namespaces,
            limits=tenant.limits.model_dump(mode="json"),
        )
    )


@router.get(
    "/v1/schema/job", tags=["platform"], responses={200: {"content": {"application/schema+json": {"schema": {}}}}}
)
async def get_job_schema() -> Response:
    """JSON Schema of the job spec, for editors and validators."""
    return Response(orjson.dumps(job_schema()), media_type="application/schema+json")


def job_schema() -> dict[str, object]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://overspill.dev/schema/job.json",
        **JobSpec.model_json_schema(by_alias=True),
    }


@router.get("/healthz", tags=["platform"], responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def get_health() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    response_model=ReadyView,
    tags=["platform"],
    responses={503: {"model": ReadyView, "description": "Not ready; `waiting_for` says what for"}},
)
async def get_ready(desk: TheDesk) -> Response:
    """Jobs can be taken and shown."""
    waiting_for = missing(desk)
    # Without room for new jobs it still shows those that are there, so it stays ready.
    warnings = [f"no new job is taken: {desk.room.why}"] if desk.room.why else []
    return show(
        ReadyView(ready=not waiting_for, waiting_for=waiting_for, warnings=warnings), 503 if waiting_for else 200
    )


def missing(desk: Desk) -> list[str]:
    return [
        what
        for what, ready in (
            ("the bus: the connection is down", desk.bus.connected),
            ("the tenants and clusters: their buckets were not read yet", desk.directory.loaded),
            ("the projection: it catches up with the event stream", desk.feed.caught_up.is_set()),
        )
        if not ready
    ]
