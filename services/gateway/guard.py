"""What every HTTP request passes before anything reads it: host, origin, size; and its span. Plain ASGI."""

import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problems import problem
from services.gateway.refusals import BadRequest, BodyTooLarge, CrossSite, WrongHost
from shared.errors import OverspillError
from shared.metrics import HTTP_DURATION
from shared.telemetry import Notes, observe, span, valid_traceparent

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
MAX_URL_BYTES = 8192


def host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def check_host(host: str | None, allowed: Sequence[str]) -> None:
    """Raises WrongHost. A page that rebinds its name to this address still says its own name here."""
    if "*" in allowed:
        return
    if host is None or host_name(host) not in allowed:
        raise WrongHost(host=repr((host or "")[:100]))


def check_origin(origin: str | None, fetch_site: str | None, host: str | None, allowed: Sequence[str]) -> None:
    """Raises CrossSite. Browsers say where a request comes from; other clients say nothing and are not concerned."""
    if origin is None:
        if fetch_site in ("cross-site", "same-site"):
            raise CrossSite(origin=f"another site ({fetch_site})")
        return
    if origin in allowed:
        return
    parts = urlsplit(origin) if origin.isascii() else None
    if parts is None or parts.scheme not in ("http", "https") or not host or parts.netloc.lower() != host.lower():
        raise CrossSite(origin=repr(origin[:100]))


class Guard:
    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Sequence[str],
        allowed_origins: Sequence[str],
        max_body_bytes: int,
        refused: Callable[[OverspillError], None],
    ) -> None:
        self._app, self._max_body_bytes, self._refused = app, max_body_bytes, refused
        self._hosts, self._origins = [host.lower() for host in allowed_hosts], allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        parent = valid_traceparent(headers.get("traceparent"))
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        about = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope.get("scheme", "http")}
        began = time.monotonic()
        with span(method.replace("_OTHER", "HTTP"), "SERVER", about, parent=parent) as notes:
            try:
                self._check(scope, headers)
            except OverspillError as error:
                self._refused(error)
                notes.attributes["http.response.status_code"] = error.status
                await problem(error, scope["path"])(scope, receive, send)
                return
            limited = _Limited(receive, self._max_body_bytes)
            answer = _HeadOnly(send) if scope["method"] == "HEAD" else send
            if scope["method"] == "HEAD":
                # Whatever can be got can be asked for its head.
                scope = {**scope, "method": "GET"}

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _measure(method, scope, message, time.monotonic() - began)
                    _note(notes, scope, message["status"])
                    message["headers"] = [*message["headers"], *_SECURITY]
                await answer(message)

            try:
                await self._app(scope, limited, sending)
            except BodyTooLarge as error:
                self._refused(error)
                await problem(error, scope["path"])(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            raise BadRequest(why="there are several Host headers; send one")
        host = hosts[0] if hosts else None
        check_host(host, self._hosts)
        check_origin(headers.get("origin"), headers.get("sec-fetch-site"), host, self._origins)
        if len(scope.get("query_string", b"")) + len(scope["path"]) > MAX_URL_BYTES:
            raise BadRequest(why=f"the URL is longer than {MAX_URL_BYTES} bytes")
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._max_body_bytes:
            raise BodyTooLarge(limit=self._max_body_bytes)


def _measure(method: str, scope: Scope, answer: Message, seconds: float) -> None:
    """To the first byte: how long a body takes is the reader's doing, and a followed stream's never ends."""
    route = getattr(scope.get("route"), "path", "")
    attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": answer["status"]}
    observe(HTTP_DURATION, seconds, attributes)


def _note(notes: Notes, scope: Scope, status: int) -> None:
    """By OpenTelemetry's HTTP conventions: what we could not answer is an error, what was asked wrongly is none."""
    notes.attributes["http.response.status_code"] = status
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        notes.attributes["http.route"] = route
        notes.name = f"{notes.name} {route}"
    if status >= _SERVER_ERROR:
        notes.error_type = str(status)


_SERVER_ERROR = 500
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class _HeadOnly:
    """Ends the answer behind its head: a stream that would never end is then told that its reader left."""

    def __init__(self, send: Send) -> None:
        self._send, self._over = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
        elif not self._over:
            self._over = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class _Limited:
    """Counts a body that doesn't say its length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._read = receive, limit, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            raise BodyTooLarge(limit=self._limit)
        return message
