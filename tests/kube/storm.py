"""A way to the API server on which a storm can blow: some answers are 429 and 5xx, some requests are heard and not
answered, some streams end in the middle of a line.
"""

import io
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from aiohttp import web

from tests.kube.control_plane import ControlPlane

_HOP = {"host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"}


@dataclass
class Storm:
    plane: ControlPlane
    session: aiohttp.ClientSession
    chance: random.Random
    url: str = ""
    share: float = 0.0
    """Of requests that it hits."""
    fails: Callable[[web.Request], bool] = lambda _: False
    """Requests that are answered 503, whatever the share."""
    hits: dict[str, int] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def before(cls, plane: ControlPlane, seed: int) -> AsyncIterator[Self]:
        """It speaks plain HTTP, as the cluster's admin to the server."""
        context = ssl.create_default_context(cafile=str(plane.authority.file))
        admin = plane.home / "pki" / "admin"
        context.load_cert_chain(admin.with_suffix(".crt"), admin.with_suffix(".key"))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            storm = cls(plane, session, random.Random(seed))
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", storm.pass_on)
            runner = web.AppRunner(app, shutdown_timeout=0.1)  # a watch would be waited for a minute
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            storm.url = f"http://{host}:{port}"
            try:
                yield storm
            finally:
                await runner.cleanup()

    def kubeconfig(self) -> str:
        return (
            '{"apiVersion":"v1","kind":"Config","current-context":"s","users":[{"name":"s","user":{}}],'
            f'"clusters":[{{"name":"s","cluster":{{"server":"{self.url}"}}}}],'
            '"contexts":[{"name":"s","context":{"cluster":"s","user":"s"}}]}'
        )

    def _hit(self) -> str:
        if self.chance.random() >= self.share:
            return ""
        what = self.chance.choice(["too many", "server error", "unanswered", "cut"])
        self.hits[what] = self.hits.get(what, 0) + 1
        return what

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        hit = "server error" if self.fails(request) else self._hit()
        if hit == "too many":
            return web.Response(status=429, headers={"Retry-After": "0.05"}, text="storm")
        if hit == "server error":
            return web.Response(status=self.chance.choice([500, 502, 503, 504]), text="storm")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        body = await request.read()
        async with self.session.request(
            request.method,
            self.plane.url + request.raw_path,
            data=io.BytesIO(body) if body else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if hit == "unanswered":
                return self._drop(request)
            told = web.StreamResponse(status=answer.status)
            told.content_type = answer.content_type
            if (retry := answer.headers.get("Retry-After")) is not None:
                told.headers["Retry-After"] = retry
            await told.prepare(request)
            async for piece in answer.content.iter_any():
                if hit == "cut":
                    await told.write(piece[: len(piece) // 2])
                    return self._drop(request)
                await told.write(piece)
            await told.write_eof()
            return told

    def _drop(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
