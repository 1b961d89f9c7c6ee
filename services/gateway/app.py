"""The HTTP application: routes, guard, problems, OpenAPI."""

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Route

from services.gateway.desk import Desk
from services.gateway.guard import Guard
from services.gateway.problems import install
from services.gateway.routes import artifacts, clusters, events, jobs, keys, logs, operating, platform, status, tenants
from services.gateway.routes.artifacts import SourceAsked
from services.gateway.routes.clusters import ClusterAsked
from services.gateway.routes.keys import KeyAsked
from services.gateway.routes.tenants import TenantAsked
from services.gateway.views import EventPage, Problem
from shared.spec import JobSpec

DESCRIPTION = """\
Overspill runs CI builds on the machines you own; the surge spills to serverless.

Every error is an RFC 9457 problem whose `detail` names the remedy and whose `code` is stable.
Say who you are with `Authorization: Bearer <API key or JWT>`.
"""


def create_app(desk: Desk) -> FastAPI:
    app = FastAPI(
        title="Overspill",
        version="1",
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    rooms = (jobs, events, logs, artifacts, clusters, tenants, keys, operating, platform, status)
    for room in rooms:
        app.include_router(room.router)
    own = [route for route in app.routes if isinstance(route, Route)]
    app.state.routes = [*own, *(route for room in rooms for route in room.router.routes)]
    install(app)
    settings = desk.settings
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id", "range"],
            expose_headers=["location", "content-range", "retry-after", "idempotency-replayed"],
        )
    app.add_middleware(
        Guard,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        max_body_bytes=settings.max_body_bytes,
        refused=desk.refusing.refused,
    )
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Adds what routes name but FastAPI can't see: bodies that are read by hand, and who may call."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (JobSpec, SourceAsked, ClusterAsked, TenantAsked, KeyAsked, EventPage, Problem):
            schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path not in ("/healthz", "/readyz", "/v1/schema/job"):
                    operation["security"] = [{"bearer": []}]
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
