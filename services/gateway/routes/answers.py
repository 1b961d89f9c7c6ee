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
        }
        for status in every
    }


def show(view: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(view.model_dump_json(), status, headers=headers, media_type="application/json")


PROBLEM_SCHEMA = Problem
