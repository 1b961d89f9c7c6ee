"""/v1/tenants/{tenant}/keys: for operators, with what people and services of a tenant come in over HTTP."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from services.gateway.desk import Operator, TheDesk
from services.gateway.presenting import time_of
from services.gateway.routes.answers import problems, show
from services.gateway.routes.reading_input import body_of, taking
from services.gateway.views import KeysView, KeyView, NewKeyView, View
from shared.clock import iso
from shared.principal import Role
from shared.tenancy import ApiKey, new_api_key

log = structlog.get_logger()
router = APIRouter(prefix="/v1/tenants", tags=["tenants"])
Tenant = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")]
KeyId = Annotated[str, Path(pattern=r"^[a-z0-9]{1,32}$")]


class KeyAsked(View):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=100, description="for people; what it does is told as of `key:<name>`")
    role: Role = Role.SUBMITTER
    expires_seconds: float | None = Field(default=None, gt=0, le=10**9, description="absent: never")


@router.post(
    "/{tenant}/keys",
    status_code=201,
    response_model=NewKeyView,
    openapi_extra=taking("KeyAsked"),
    responses={201: {"model": NewKeyView, "description": "Made"}, **problems(404, 409, 413, 415)},
)
async def create_key(request: Request, tenant: Tenant, caller: Operator, desk: TheDesk) -> Response:
    """A new API key. Its token is in this answer alone; only a digest of it is stored."""
    asked = KeyAsked.model_validate(await body_of(request, KeyAsked))
    now = desk.clock.now()
    expires = None if asked.expires_seconds is None else int(now + asked.expires_seconds)
    token, key = new_api_key(asked.name, asked.role, int(now), expires)
    await desk.enrolling.add_key(tenant, key)
    log.info("key_made", tenant=tenant, key=key.id, role=key.role.value, by=caller.subject)
    return show(NewKeyView(**_view(key).model_dump(), token=token), 201)


@router.get("/{tenant}/keys", response_model=KeysView, responses=problems(404))
async def list_keys(tenant: Tenant, caller: Operator, desk: TheDesk) -> Response:
    """The tenant's keys, without their tokens."""
    del caller
    return show(KeysView(keys=[_view(key) for key in await desk.enrolling.keys(tenant)]))


@router.delete(
    "/{tenant}/keys/{key}",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "It opens nothing any more"}, **problems(404, 409)},
)
async def revoke_key(tenant: Tenant, key: KeyId, caller: Operator, desk: TheDesk) -> Response:
    """Withdraw a key."""
    await desk.enrolling.revoke_key(tenant, key)
    log.info("key_revoked", tenant=tenant, key=key, by=caller.subject)
    return Response(status_code=204)


def _view(key: ApiKey) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        role=key.role.value,
        created=time_of(key.created_unix * 10**9) or iso(0),
        expires=None if key.expires_unix is None else time_of(key.expires_unix * 10**9),
    )
