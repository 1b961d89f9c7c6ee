"""Errors as RFC 9457 problems: one place turns what went wrong into an HTTP answer."""

from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from services.gateway.refusals import RangeUnsatisfiable
from shared.errors import OverspillError, Poison, Unauthenticated, Unavailable

log = structlog.get_logger()

PROBLEM_TYPE = "https://overspill.dev/problems/"
MEDIA_TYPE = "application/problem+json"
INTERNAL = 500
NOT_ALLOWED = 405
RETRY_AFTER_SECONDS = 2
_REMEDIES = {
    404: "There is nothing at {path}; the API is described at /v1/openapi.json.",
    405: "{method} is not possible at {path}; the API is described at /v1/openapi.json.",
}


def problem_body(status: int, code: str, detail: str, instance: str, **more: Any) -> bytes:
    return orjson.dumps(
        {
            "type": PROBLEM_TYPE + code,
            "title": code.replace("_", " ").capitalize(),
            "status": status,
            "detail": detail,
            "code": code,
            "instance": instance,
            **more,
        }
    )


def problem(error: OverspillError, instance: str) -> Response:
    status, detail = error.status, str(error)
    if status >= INTERNAL and not isinstance(error, Unavailable) and error.code != "projection_behind":
        log.error("request_failed", instance=instance, code=error.code, error=detail)
    if isinstance(error, Poison):
        # What another part wrote can't be read: not this caller's doing.
        status = INTERNAL
    body = problem_body(status, error.code, detail, instance)
    return Response(body, status, headers=_headers(error), media_type=MEDIA_TYPE)


def _headers(error: OverspillError) -> dict[str, str]:
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="overspill"'
    if isinstance(error, RangeUnsatisfiable):
        headers["Content-Range"] = f"bytes */{error.total}"
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is None and error.status == Unavailable.status:
        retry_after = RETRY_AFTER_SECONDS
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return headers


async def _on_ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, OverspillError):
        raise TypeError from error
    request.app.state.desk.refusing.refused(error, getattr(request.state, "tenant", None))
    return problem(error, request.url.path)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    remedy = _REMEDIES.get(error.status_code, str(error.detail))
    detail = remedy.format(path=request.url.path, method=request.method)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, f"http_{error.status_code}")
    body = problem_body(error.status_code, code, detail, request.url.path)
    headers = dict(error.headers or {})
    if error.status_code == NOT_ALLOWED:
        # The framework names the methods of one route of the path only.
        headers["Allow"] = ", ".join(allowed(request))
    return Response(body, error.status_code, headers=headers, media_type=MEDIA_TYPE)


def allowed(request: Request) -> list[str]:
    """Every method of this path."""
    methods: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError from error
    found = [
        {"in": str(part["loc"][0]), "name": ".".join(str(step) for step in part["loc"][1:]), "detail": part["msg"]}
        for part in error.errors()[:20]
    ]
    first = found[0]
    detail = f"{first['in']} {first['name']}: {first['detail']}".replace("  ", " ")
    body = problem_body(422, "invalid_request", detail, request.url.path, errors=found)
    return Response(body, 422, media_type=MEDIA_TYPE)


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request_failed", instance=request.url.path, exc_info=error)
    detail = "The gateway failed on this request; its log says why. Nothing was promised: try again, or report it."
    return Response(problem_body(500, "internal", detail, request.url.path), 500, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(OverspillError, _on_ours)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)
