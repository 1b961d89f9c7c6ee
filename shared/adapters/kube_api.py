"""`shared.kube.KubeApi` over the transport and the credentials of kubernetes-asyncio; objects stay JSON.

Its generated models and its watch are left aside: a watch there reconnects without a pause, retries a version that is
too old with the same version, and hangs on a silent socket (seen on 36.1.0).
"""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson

from shared.errors import NotFound, OverspillError, Unavailable
from shared.kube import Busy, Change, Keep, Kind, KubeConflict, KubeRefused, Listing, NamespaceGoes, Resource, TooOld

CALL_SECONDS = 30.0
CONNECT_SECONDS = 5.0
WATCH_SECONDS = 300
"""Asked of the server: it ends a watch after so long."""
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute: a stream silent for longer is dead."""
PAGE = 500
MANAGER = "overspill"
_TOO_MANY, _GONE, _CONFLICT, _ABSENT, _SERVER = 429, 410, 409, 404, 500
_DEFAULT_RETRY_SECONDS = 1.0
_GOES = "NamespaceTerminating"
"""A cause of 403, beside the reason."""


class NoCluster(OverspillError):
    """There is no way to a Kubernetes cluster: {why}. Give a kubeconfig, or run in a pod with a service account."""

    code = "no_cluster"


class KubeServer:
    """Make it with `connect`."""

    def __init__(self, session: aiohttp.ClientSession, configuration: Any) -> None:
        self._session, self._configuration = session, configuration
        self._url = str(configuration.host).rstrip("/")

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path | None = None, *, connections: int = 128) -> AsyncIterator[Self]:
        """By a kubeconfig file, else as the service account of the pod we run in. Touches no network.

        Raises NoCluster.
        """
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.client.rest import RESTClientObject
        from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

        configuration = Configuration()
        try:
            if kubeconfig is None:
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # the library has no types here
            else:
                await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise NoCluster(why=str(error)) from error
        transport = RESTClientObject(configuration, maxsize=connections)
        try:
            yield cls(transport.pool_manager, configuration)
        finally:
            await transport.close()

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Resource:
        return await self._call("GET", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "", keep: Keep | None = None
    ) -> Listing:
        query = {"limit": str(PAGE), **_selectors(labels, fields)}
        items: list[Resource] = []
        while True:
            page = await self._call("GET", kind.path(namespace), query)
            items += page["items"] if keep is None else map(keep, page["items"])
            go_on = page["metadata"].get("continue")
            if not go_on:
                return Listing(items, page["metadata"]["resourceVersion"])
            query["continue"] = go_on

    async def create(self, kind: Kind, resource: Resource) -> Resource:
        namespace = resource["metadata"].get("namespace")
        return await self._call("POST", kind.path(namespace), {"fieldManager": MANAGER}, resource)

    async def apply(self, kind: Kind, resource: Resource) -> Resource:
        about = resource["metadata"]
        query = {"fieldManager": MANAGER, "force": "true"}
        path = kind.path(about.get("namespace"), about["name"])
        return await self._call("PATCH", path, query, resource, content_type="application/apply-patch+yaml")

    async def replace(self, kind: Kind, resource: Resource) -> Resource:
        about = resource["metadata"]
        path = kind.path(about.get("namespace"), about["name"])
        return await self._call("PUT", path, {"fieldManager": MANAGER}, resource)

    async def merge(self, kind: Kind, name: str, namespace: str | None, change: Resource) -> Resource:
        query = {"fieldManager": MANAGER}
        return await self._call(
            "PATCH", kind.path(namespace, name), query, change, content_type="application/merge-patch+json"
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        uid: str = "",
        version: str = "",
    ) -> None:
        options: Resource = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        demanded = {"uid": uid, "resourceVersion": version}
        if uid or version:
            options["preconditions"] = {name: value for name, value in demanded.items() if value}
        try:
            await self._call("DELETE", kind.path(namespace, name), body=options)
        except NotFound:
            return

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "", version: str
    ) -> AsyncGenerator[Change, None]:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **_selectors(labels, fields),
        }
        path = kind.path(namespace)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with self._session.get(
                self._url + path, params=query, headers=await self._headers(), timeout=timeout
            ) as answer:
                if answer.status != 200:  # noqa: PLR2004 - HTTP: anything else is no stream
                    raise _error(path, answer.status, await answer.read(), answer.headers)
                async for line in answer.content:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise _error(path, event["object"].get("code", _SERVER), orjson.dumps(event["object"]), {})
                    yield Change(event["type"], event["object"])
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise self._unreachable(error) from error

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Resource | None = None,
        content_type: str = "application/json",
    ) -> Resource:
        headers = await self._headers()
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
                self._session.request(
                    method,
                    self._url + path,
                    params=query,
                    data=None if body is None else io.BytesIO(orjson.dumps(body)),
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),
                ) as answer,
            ):
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        if not answer.ok:
            raise _error(path, answer.status, data, answer.headers)
        try:
            found: Resource = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._unreachable(error) from error  # something on the way answered in its stead
        return found

    async def _headers(self) -> dict[str, str]:
        """Tokens are renewed by the configuration itself, so they are asked for at each call."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Accept": "application/json", **({"Authorization": token} if token else {})}

    def _unreachable(self, error: BaseException) -> Unavailable:
        return Unavailable(what=f"Kubernetes at {self._url}", why=str(error) or type(error).__name__)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in named.items() if value}


def _error(path: str, status: int, data: bytes, headers: Mapping[str, str]) -> OverspillError:
    """The server's Status object as one of ours."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        told = {}
    told = told if isinstance(told, dict) else {}
    why = str(told.get("message") or data[:300].decode(errors="replace") or f"HTTP {status}")
    reason = str(told.get("reason") or "")
    if status == _ABSENT:
        return NotFound(what="Kubernetes object", name=path)
    if status == _CONFLICT:
        return KubeConflict(what=path)
    if status == _GONE:
        return TooOld(what=path)
    if status == _TOO_MANY or status >= _SERVER:
        details = told.get("details") or {}
        wait = headers.get("Retry-After") or details.get("retryAfterSeconds") or _DEFAULT_RETRY_SECONDS
        seconds = float(wait) if str(wait).replace(".", "", 1).isdigit() else _DEFAULT_RETRY_SECONDS
        return Busy(what=f"Kubernetes ({path})", why=why, retry_after_seconds=seconds)
    causes = (told.get("details") or {}).get("causes") or ()
    refused = NamespaceGoes if any(cause.get("reason") == _GOES for cause in causes) else KubeRefused
    return refused(what=path, why=why, status=status, reason=reason)
