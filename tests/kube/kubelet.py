"""A kubelet that does what a test says: it writes statuses as the real one was seen to write them. The API server is
real.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.adapters.kube_api import KubeServer
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.kube import NAMESPACE, NODE, POD, Change, Kind, Resource
from shared.kube_following import Listed, Selection, follow

PATIENCE_SECONDS = 60.0


@dataclass
class Kubelet:
    api: KubeServer
    namespace: str
    node: str = "node-1"

    async def pod(self, name: str) -> Resource:
        """Once it is there."""
        return await self.until(name, lambda pod: pod is not None)

    async def until(self, name: str, look: Callable[[Resource | None], bool], kind: Kind = POD) -> Any:
        namespace = self.namespace if kind.namespaced else None
        selection = Selection(kind, namespace, fields=f"metadata.name={name}")
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            contextlib.aclosing(follow(self.api, selection, SystemClock())) as told,
        ):
            async for each in told:
                match each:
                    case Listed(items):
                        found = items[0] if items else None
                    case Change("DELETED", _):
                        found = None
                    case Change(_, resource):
                        found = resource
                if look(found):
                    return found
        raise AssertionError

    async def until_gone(self, name: str) -> None:
        await self.until(name, lambda pod: pod is None)

    async def until_deleting(self, name: str) -> Resource:
        def look(pod: Resource | None) -> bool:
            return pod is not None and pod["metadata"].get("deletionTimestamp") is not None

        found: Resource = await self.until(name, look)
        return found

    async def until_there(self, kind: Kind, name: str) -> None:
        await self.until(name, lambda found: found is not None, kind)

    async def until_none(self, kind: Kind) -> None:
        there: set[str] = set()
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            contextlib.aclosing(follow(self.api, Selection(kind, self.namespace), SystemClock())) as told,
        ):
            async for each in told:
                match each:
                    case Listed(items):
                        there = {item["metadata"]["name"] for item in items}
                    case Change("DELETED", resource):
                        there.discard(resource["metadata"]["name"])
                    case Change(_, resource):
                        there.add(resource["metadata"]["name"])
                if not there:
                    return

    async def bind(self, name: str) -> None:
        """As kube-scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
        about = {"name": name, "namespace": self.namespace}
        path = Kind("v1", "Binding", f"pods/{name}/binding")
        await self.api.create(path, {"apiVersion": "v1", "kind": "Binding", "metadata": about, "target": target})

    async def tell(self, name: str, phase: str, *containers: Resource, **status: Any) -> None:
        change = {"status": {"phase": phase, "containerStatuses": list(containers), **status}}
        await self.api.merge(POD, f"{name}/status", self.namespace, change)

    async def run(self, name: str) -> None:
        pod = await self.pod(name)
        await self.bind(name)
        names = [container["name"] for container in pod["spec"]["containers"]]
        await self.tell(name, "Running", *(container(each, {"running": {}}) for each in names))

    async def end(self, name: str, phase: str = "Succeeded", **status: Any) -> None:
        """All its containers are gone."""
        pod = await self.pod(name)
        code = 0 if phase == "Succeeded" else 1
        names = [each["name"] for each in pod["spec"]["containers"]]
        await self.tell(name, phase, *(container(each, terminated(code)) for each in names), **status)

    async def obey(self, name: str) -> None:
        """A deletion: the containers end, then the object goes, were it not for finalizers."""
        await self.until_deleting(name)
        with contextlib.suppress(NotFound):
            await self.end(name, "Failed")
            await self.api.delete(POD, name, self.namespace, grace_seconds=0)

    async def evict(self, name: str) -> None:
        """As a drain does."""
        about = {"name": name, "namespace": self.namespace}
        path = Kind("v1", "Eviction", f"pods/{name}/eviction")
        await self.api.create(path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about})

    async def until_namespace_gone(self) -> None:
        await self.until(self.namespace, lambda found: found is None, NAMESPACE)

    async def join(self, name: str, **about: Any) -> None:
        """A node."""
        made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **about}}
        await self.api.create(NODE, made)


def container(name: str, state: Resource, **more: Any) -> Resource:
    base = {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    return {**base, "state": state, **more}


def terminated(code: int, reason: str = "", message: str = "") -> Resource:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
        }
    }


def waiting(reason: str, message: str = "") -> Resource:
    return {"waiting": {"reason": reason, "message": message}}


def condition(kind: str, status: str, reason: str, message: str = "") -> Resource:
    return {"type": kind, "status": status, "reason": reason, "message": message}
