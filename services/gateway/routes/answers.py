"""What every route says of itself in OpenAPI, and how views become responses."""

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from services.gateway.views import Problem

_WORDS = {
    400: "The request can't be understood",
    401: "No valid credential",
    403: "The role does not allow it",
    404: "There is no such thing for this tenant",
    409: "It was changed meanwhile",
    413: "The body is too large",
    415: "The body is of another type",
    416: "The range lies outside of the log",
    421: "This server does not answer for that host",
    422: "Refused; `detail` names the remedy",
    429: "Too much at once; see Retry-After",
    500: "The gateway failed",
    503: "A dependency is away; see Retry-After",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses for these and for what every route can answer."""
    every = sorted({*statuses, 400, 401, 403, 421, 422, 429, 500, 503})
    return {
        status: {
            "description": _WORDS[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in every
    }


def header(name: str, description: str, *, required: bool = True) -> dict[str, Any]:
    """OpenAPI's word for one header of a response."""
    return {name: {"description": description, "required": required, "schema": {"type": "string"}}}


_HEADERS = {
    401: header("WWW-Authenticate", "how to say who you are"),
    416: header("Content-Range", "`bytes */<length so far>`"),
    429: header("Retry-After", "seconds after which it is worth trying again"),
    503: header("Retry-After", "seconds after which it is worth trying again"),
}


def show(view: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(view.model_dump_json(), status, headers=headers, media_type="application/json")


SERVER_SENT = {
    "type": "object",
    "description": "one server-sent event",
    "properties": {
        "id": {"type": "string", "description": "give it as Last-Event-ID to go on behind it"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
PROBLEM_SCHEMA = Problem
