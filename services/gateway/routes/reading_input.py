"""Query parameters and headers from text, with a clear refusal for nonsense."""

import re
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from services.gateway.refusals import BadRequest, InvalidBody, UnsupportedMedia

IDEMPOTENCY_LIMIT = 200
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
_SECONDS = re.compile(r"\d{1,11}(\.\d{1,9})?")


def instant_ns(name: str, text: str | None) -> int | None:
    """Unix nanoseconds from RFC 3339 or unix seconds. Raises BadRequest."""
    seconds = _instant(name, text)
    return None if seconds is None else min(int(seconds * 1e9), 2**63 - 1)


def _instant(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    if _SECONDS.fullmatch(text) and text.isascii():
        return float(text)
    try:
        # In a URL an unescaped + of the offset arrives as a space.
        when = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadRequest(why=f"{name}: give an instant such as 2026-01-31T12:00:00Z, or unix seconds") from error
    if seconds < 0:
        raise BadRequest(why=f"{name} lies before 1970")
    return seconds


def idempotency_key(header: str | None) -> str | None:
    """Raises BadRequest."""
    if header is None:
        return None
    if _KEY.fullmatch(header) is None:
        raise BadRequest(why=f"Idempotency-Key must be 1 to {IDEMPOTENCY_LIMIT} printable ASCII characters")
    return header


def label(text: str) -> tuple[str, str]:
    """Raises BadRequest."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BadRequest(why=f"label {text[:80]!r}: give key=value")
    return key, value


def taking(model: str) -> dict[str, Any]:
    """OpenAPI's word for a JSON body that is read by `body_of`."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    return {"requestBody": {"required": True, "content": content}}


async def body_of(request: Request, model: type[BaseModel]) -> dict[str, Any]:
    """What the body says, as JSON, once it is right. Raises UnsupportedMedia, BadRequest, InvalidBody."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(wanted="application/json", given=repr(kind[:100]))
    try:
        told = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(why=f"the body is no JSON: {error}") from error
    try:
        asked = model.model_validate_json(orjson.dumps(told), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidBody(why=f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    _check_known(asked, "")
    return asked.model_dump(mode="json", exclude_unset=True)


def _check_known(value: object, where: str) -> None:
    """Models of the bus keep what they don't know; a person's slip is refused. Raises InvalidBody."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            _check_known(each, f"{where}{number}.")
    if not isinstance(value, BaseModel):
        return
    for name in value.model_extra or ():
        raise InvalidBody(why=f"{where}{name}: there is no such field")
    for name in type(value).model_fields:
        _check_known(getattr(value, name), f"{where}{name}.")
