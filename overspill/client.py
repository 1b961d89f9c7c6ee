"""The HTTP API from the outside. Every failure is a Complaint with the server's own words."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

import httpx

from overspill.complaint import Complaint, Exit, NoSuch, Unreachable
from overspill.configuration import Server
from overspill.sse import ServerEvent, events_of, lines_of
from shared.version import VERSION

Json = dict[str, Any]

PATIENCE_SECONDS = 120.0
"""How long a server that went away is asked again while following."""
FIRST_PAUSE_SECONDS = 0.1
ACCOUNT_TRIES = 100
LONGEST_PAUSE_SECONDS = 3.0
TRIES, TRYING_SECONDS = 4, 60.0
"""How often a request is made that may be made twice, and for how long."""
SILENCE_SECONDS = 60.0
"""The server says something every 15 s; longer silence means the connection is dead."""
CHUNK_BYTES = 2**18
_DELETED, _MISSING, _SERVER_ERROR, _TOO_MANY = 204, 404, 500, 429
_NOT_ALLOWED = (401, 403)


class Client:
    """One server, one token. Use as `async with`."""

    def __init__(self, server: Server, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._server = server
        # Proxy settings are for the world outside; what runs on this machine is reached directly.
        self._is_local = server.url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
        self._http = httpx.AsyncClient(
            base_url=server.url,
            headers={"Authorization": f"Bearer {server.token}", "User-Agent": f"overspill/{VERSION}"},
            timeout=httpx.Timeout(30.0, connect=10.0),
            transport=transport,
            trust_env=not self._is_local,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def submit(self, spec: bytes, media_type: str, key: str) -> Json:
        """Told twice (with the same `key`) it makes one job."""
        headers = {"Content-Type": media_type, "Idempotency-Key": key}
        return await self._json("POST", "/v1/jobs", content=spec, headers=headers)

    async def jobs(self, query: Mapping[str, str | int | list[str]]) -> Json:
        return await self._json("GET", "/v1/jobs", params=dict(query))

    async def job(self, job: str) -> Json:
        return await self._json("GET", f"/v1/jobs/{job}")

    async def cancel(self, job: str) -> Json:
        return await self._json("POST", f"/v1/jobs/{job}/cancel")

    async def delete(self, job: str, *, cancel: bool) -> bool:
        """False: it was live and goes once it has ended."""
        how = {"cancel": "true"} if cancel else {}
        answer = await self._asked("DELETE", f"/v1/jobs/{job}", tries=1, params=how)
        return answer.status_code == _DELETED

    async def buried(self, query: Mapping[str, str | int]) -> Json:
        return await self._json("GET", "/v1/dlq", params=dict(query))

    async def of_job(self, job: str, what: str) -> Any:
        """`why`, `spec`, `summary` or `artifacts` of a job."""
        return await self._answer("GET", f"/v1/jobs/{job}/{what}")

    async def events_page(self, job: str, after: int) -> Json:
        headers = {"Accept": "application/json"}
        return await self._json("GET", f"/v1/jobs/{job}/events", params={"after": after}, headers=headers)

    async def clusters(self) -> Json:
        return await self._json("GET", "/v1/clusters")

    async def put_cluster(self, cluster: str, about: Json) -> Json:
        return await self._json("PUT", f"/v1/clusters/{quote(cluster, safe='')}", json=about)

    async def cluster_credential(self, cluster: str, expires_seconds: float | None) -> str:
        """Its account is made moments after its record. Raises NoSuch when it is not."""
        query = {} if expires_seconds is None else {"expires_seconds": expires_seconds}
        path = f"/v1/clusters/{quote(cluster, safe='')}/credential"
        for _ in range(ACCOUNT_TRIES):
            try:
                return str((await self._json("POST", path, params=query))["credential"])
            except NoSuch:
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
        return str((await self._json("POST", path, params=query))["credential"])

    async def remove_cluster(self, cluster: str, *, force: bool) -> None:
        await self._asked("DELETE", f"/v1/clusters/{quote(cluster, safe='')}", tries=1, params={"force": force})

    async def tenants(self) -> Json:
        return await self._json("GET", "/v1/tenants")

    async def tenant(self, tenant: str) -> Json:
        return await self._json("GET", f"/v1/tenants/{quote(tenant, safe='')}")

    async def put_tenant(self, tenant: str, about: Json) -> Json:
        return await self._json("PUT", f"/v1/tenants/{quote(tenant, safe='')}", json=about)

    async def delete_tenant(self, tenant: str, *, force: bool) -> None:
        await self._asked("DELETE", f"/v1/tenants/{quote(tenant, safe='')}", tries=1, params={"force": force})

    async def keys(self, tenant: str) -> Json:
        return await self._json("GET", f"/v1/tenants/{quote(tenant, safe='')}/keys")

    async def create_key(self, tenant: str, about: Json) -> Json:
        return await self._json("POST", f"/v1/tenants/{quote(tenant, safe='')}/keys", tries=1, json=about)

    async def revoke_key(self, tenant: str, key: str) -> None:
        await self._asked("DELETE", f"/v1/tenants/{quote(tenant, safe='')}/keys/{quote(key, safe='')}", tries=1)

    async def status(self) -> Json:
        return await self._json("GET", "/v1/status")

    async def me(self) -> Json:
        return await self._json("GET", "/v1/me")

    async def source(self, sha256: str, size_bytes: int) -> Json:
        return await self._json("POST", "/v1/sources", json={"sha256": sha256, "size_bytes": size_bytes})

    async def upload(self, put: Json, path: Path, size_bytes: int) -> None:
        """To a presigned address, which needs no token of ours."""
        headers = {**put.get("headers", {}), "Content-Length": str(size_bytes)}
        try:
            async with self._plain() as http:
                with await asyncio.to_thread(path.open, "rb") as content:
                    answer = await http.put(put["url"], content=_chunks(content), headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"the upload to the object store broke off ({_why(error)}); try again") from error
        if answer.is_error:
            raise Complaint(f"the object store refused the upload ({answer.status_code}): {answer.text[:300]}")

    async def download(self, job: str, artifact: str, target: Path) -> int:
        """Into `target`, which appears whole or not at all; its size in bytes."""
        part = target.with_name(f".{target.name}.part")
        size = 0
        path = f"/v1/jobs/{job}/artifacts/{quote(artifact, safe='')}"
        told = await self._json("GET", path, headers={"Accept": "application/json"})
        try:
            async with (
                self._plain() as http,
                http.stream("GET", told["url"], headers=told.get("headers", {})) as answer,
            ):
                if answer.is_error:
                    raise Complaint(f"the object store refused the download ({answer.status_code}); try again")
                with part.open("wb") as file:
                    async for chunk in answer.aiter_raw():
                        size += file.write(chunk)
            part.replace(target)
        except httpx.HTTPError as error:
            raise Unreachable(f"the download broke off ({_why(error)}); try again") from error
        finally:
            part.unlink(missing_ok=True)
        return size

    async def follow(self, path: str, query: Mapping[str, str | int]) -> AsyncIterator[ServerEvent]:
        """Server-sent events up to and with `end`; a lost connection is taken up again where it broke off.

        Raises Unreachable when the server stays away for PATIENCE_SECONDS.
        """
        last_id: str | None = None
        pause, away = FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                async with self._open(path, query, last_id) as lines:
                    async for event in events_of(lines):
                        pause, away = FIRST_PAUSE_SECONDS, 0.0
                        last_id = event.id or last_id
                        yield event
                        if event.event == "end":
                            return
            except (Unreachable, httpx.TransportError) as error:
                if away >= PATIENCE_SECONDS:
                    raise Unreachable(f"the server stays away ({error}); the job goes on without us") from error
            await asyncio.sleep(pause)
            away += pause
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _open(
        self, path: str, query: Mapping[str, str | int], last_id: str | None
    ) -> AsyncIterator[AsyncIterator[str]]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=10.0)
        async with self._http.stream("GET", path, params=dict(query), headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                await answer.aread()
                self._refuse(answer)
            yield lines_of(answer.aiter_bytes())

    async def read(self, path: str, query: Mapping[str, str | int]) -> AsyncIterator[bytes]:
        """The bytes of a log as they are now."""
        try:
            async with self._http.stream("GET", path, params=dict(query)) as answer:
                if answer.is_error:
                    await answer.aread()
                    self._refuse(answer)
                async for chunk in answer.aiter_bytes():
                    yield chunk
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _plain(self) -> httpx.AsyncClient:
        """For presigned addresses: without our token, and with the patience large objects need."""
        return httpx.AsyncClient(timeout=httpx.Timeout(120.0, connect=10.0), trust_env=not self._is_local)

    async def _json(self, method: str, path: str, **how: Any) -> Json:
        answer = await self._answer(method, path, **how)
        if not isinstance(answer, dict):
            raise Complaint(f"{self._server.url} answers, but not as Overspill does; check {self._server.said_by}")
        return answer

    async def _asked(self, method: str, path: str, *, tries: int = TRIES, **how: Any) -> httpx.Response:
        """What was refused for now, or whose answer was lost, is asked again; `tries` 1: for what the second time does
        again, or finds done.
        """
        pause, began = FIRST_PAUSE_SECONDS, time.monotonic()
        for _ in range(tries - 1):
            try:
                return await self._asked_once(method, path, **how)
            except Unreachable as error:
                if time.monotonic() - began > TRYING_SECONDS:
                    raise
                await asyncio.sleep(min(max(pause, error.retry_after_seconds), LONGEST_PAUSE_SECONDS))
                pause *= 2
        return await self._asked_once(method, path, **how)

    async def _asked_once(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **how)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            self._refuse(answer)
        return answer

    async def _answer(self, method: str, path: str, **how: Any) -> Any:
        answer = await self._asked(method, path, **how)
        try:
            return answer.json()
        except ValueError as error:
            raise Complaint(
                f"{self._server.url} answers, but not as Overspill does; check {self._server.said_by}"
            ) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self._server.url} does not answer ({_why(error)}): start it with `overspill up`, or correct "
            f"{self._server.said_by}"
        )

    def _refuse(self, answer: httpx.Response) -> None:
        try:
            told = json.loads(answer.content)
            detail = str(told["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self._server.url} answers {answer.status_code} {answer.reason_phrase}"
        if answer.status_code >= _SERVER_ERROR or answer.status_code == _TOO_MANY:
            retry_after = answer.headers.get("retry-after", "")
            raise Unreachable(detail, float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0)
        if answer.status_code == _MISSING:
            raise NoSuch(detail)
        if answer.status_code in _NOT_ALLOWED:
            detail += f" (the token comes from {self._server.said_by})"
        raise Complaint(detail, Exit.USAGE)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _chunks(content: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(content.read, CHUNK_BYTES):
        yield chunk
