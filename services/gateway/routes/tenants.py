"""/v1/tenants: for operators, who the tenants are and what they may use."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from services.gateway.desk import Desk, Operator, TheDesk
from services.gateway.presenting import time_of
from services.gateway.refusals import BadRequest
from services.gateway.routes.answers import problems, show
from services.gateway.routes.reading_input import body_of, taking
from services.gateway.views import TenantsView, TenantView, View, WallView
from shared.errors import NotFound
from shared.flow import WALLS
from shared.ids import is_token
from shared.requests import WallsStanding
from shared.tenancy import TenantLimits, TenantRecord
from shared.walls import Quota
from shared.wire import decode

router = APIRouter(prefix="/v1/tenants", tags=["tenants"])
Name = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")]
NAMESPACE = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""RFC 1123, as Kubernetes wants it."""


class EgressAsked(View):
    """Private addresses that the tenant's pods may reach; no ports: all of them."""

    model_config = ConfigDict(extra="forbid")

    cidr: str = Field(pattern=r"^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?$")
    ports: list[Annotated[int, Field(ge=1, le=65_535)]] = Field(default_factory=list, max_length=32)


class TenantAsked(View):
    """What is left out stays as it was, or gets its default."""

    model_config = ConfigDict(extra="forbid")

    display_name: str = Field(default="", max_length=200)
    namespaces: list[Annotated[str, Field(pattern=NAMESPACE)]] = Field(default_factory=list, max_length=256)
    pod_quota: Quota = Quota()
    egress: list[EgressAsked] = Field(default_factory=list, max_length=64)
    weight: float = Field(default=1.0, gt=0, le=1_000_000)
    limits: TenantLimits = TenantLimits()
    log_retention_seconds: float = Field(default=30 * 86_400, gt=0)
    history_seconds: float = Field(default=90 * 86_400, gt=0)


@router.get("", response_model=TenantsView, responses=problems())
async def list_tenants(caller: Operator, desk: TheDesk) -> Response:
    """All tenants, by name; without their walls."""
    del caller
    records = sorted(desk.directory.tenants.values(), key=lambda record: record.tenant)
    return show(TenantsView(tenants=[_view(record, []) for record in records]))


@router.get("/{tenant}", response_model=TenantView, responses=problems(404))
async def get_tenant(tenant: Name, caller: Operator, desk: TheDesk) -> Response:
    """A tenant and how its walls stand in each cluster."""
    del caller
    record = desk.directory.tenants.get(tenant)
    if record is None:
        raise NotFound(what="tenant", name=tenant)
    return show(_view(record, await _walls(desk, tenant)))


@router.put(
    "/{tenant}",
    response_model=TenantView,
    openapi_extra=taking("TenantAsked"),
    responses={201: {"model": TenantView, "description": "Made"}, **problems(409, 413, 415)},
)
async def put_tenant(request: Request, tenant: Name, caller: Operator, desk: TheDesk) -> Response:
    """Create a tenant, or change it: what the body leaves out stays. Its accounts and walls follow."""
    del caller
    record, is_new = await desk.enrolling.tenant(tenant, await body_of(request, TenantAsked))
    return show(_view(record, []), 201 if is_new else 200)


@router.delete(
    "/{tenant}",
    status_code=202,
    response_class=Response,
    responses={202: {"description": "Nobody comes in for it any more; everything of it goes"}, **problems(404, 409)},
)
async def delete_tenant(
    tenant: str,
    caller: Operator,
    desk: TheDesk,
    force: Annotated[bool, Query(description="also while jobs of it run: they are cancelled")] = False,  # noqa: FBT002 - a query parameter
) -> Response:
    """Delete a tenant: its jobs end, then its history, objects, queues, walls, accounts and record go. Asking again
    changes nothing.
    """
    if not is_token(tenant):
        raise NotFound(what="tenant", name=repr(tenant[:60]))
    if tenant == caller.tenant:
        raise BadRequest(why=f"{tenant} is your own tenant: ask with an operator's key of another one")
    if not force:
        await desk.enrolling.check_idle(tenant)
    await desk.deleting.tenant(caller, tenant)
    return Response(status_code=202)


async def _walls(desk: Desk, tenant: str) -> list[WallView]:
    views = []
    for cluster in sorted(record.cluster for record in desk.directory.clusters.values()):
        entry = await desk.bus.bucket(WALLS).get(f"{cluster}.{tenant}")
        if entry is not None:
            told = decode(WallsStanding, entry.value)
            views.append(WallView(cluster=cluster, stands=told.stands, why=told.why))
    return views


def _view(record: TenantRecord, walls: list[WallView]) -> TenantView:
    shown: dict[str, Any] = record.model_dump(
        mode="json",
        include={"tenant", "display_name", "pod_quota", "egress", "weight", "limits", "log_retention_seconds",
                 "history_seconds"},
    )  # fmt: skip
    closing = None if record.closing_unix is None else time_of(record.closing_unix * 10**9)
    return TenantView(**shown, namespaces=record.walls.namespaces, closing=closing, walls=walls)
