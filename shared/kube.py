"""A Kubernetes API server as the edge sees it. `shared.adapters.kube_api.KubeServer` is the real one.

Objects are the JSON that the server speaks, as dicts: what is created is a pure function's value, and what is read is
looked at by key. No model of Kubernetes' own types stands between, so a server of another version loses nothing.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared.errors import OverspillError, Rejected, Unavailable

Resource = dict[str, Any]
"""One object, or a list's item without `kind` and `apiVersion`."""
Keep = Callable[[Resource], Resource]


@dataclass(frozen=True, slots=True)
class Kind:
    """Which collection: `api_version` as objects say it (`v1`, `apps/v1`)."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        return "/".join(parts)


POD = Kind("v1", "Pod", "pods")
NODE = Kind("v1", "Node", "nodes", namespaced=False)
EVENT = Kind("v1", "Event", "events")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("v1", "LimitRange", "limitranges")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")


class KubeRefused(Rejected):
    """Kubernetes refused {what}: {why}"""

    # 400, 403, 422: telling it again changes nothing until somebody changes the cluster or what is asked.
    code = "kubernetes_refused"

    def __init__(self, *, what: str, why: str, status: int, reason: str) -> None:
        super().__init__(what=what, why=why)
        self.status = status
        self.reason = reason
        """Kubernetes' own word: Forbidden, Invalid, …"""


class NamespaceGoes(KubeRefused):
    """Kubernetes refused {what}: {why}"""

    # 403 whose cause is NamespaceTerminating: it passes once the namespace is gone and made anew.
    code = "namespace_goes"


class KubeConflict(OverspillError):
    """{what} was changed, or made, by somebody else meanwhile."""

    # 409: read again and decide anew.
    code = "conflict"
    status = 409


class TooOld(OverspillError):
    """Kubernetes no longer knows what {what} was at that version; list it again."""

    # 410, and the watch event that says the same.
    code = "too_old"
    status = 410


class Busy(Unavailable):
    """{what} can't be reached right now ({why}); nothing was lost, try again."""

    # 429 and 5xx that say when to come back.
    code = "busy"

    def __init__(self, *, what: str, why: str, retry_after_seconds: float) -> None:
        super().__init__(what=what, why=why)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Listing:
    """All of a collection as of `version`, which a watch can go on from."""

    items: list[Resource]
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch. A BOOKMARK's resource holds nothing but a version to go on from."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    resource: Resource

    @property
    def version(self) -> str:
        version: str = self.resource["metadata"]["resourceVersion"]
        return version


class KubeApi(Protocol):
    """Every call raises Unavailable while the server can't be reached (Busy when it says when to come back), and
    KubeRefused when it says no.
    """

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Resource:
        """Raises NotFound."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "", keep: Keep | None = None
    ) -> Listing:
        """In pages, as one. `labels` and `fields` are selectors. No namespace: all of them. `keep`: what of each item
        is wanted; no more than a page is ever whole in memory.
        """
        ...

    async def create(self, kind: Kind, resource: Resource) -> Resource:
        """In the namespace that its metadata names. Raises KubeConflict when the name is taken, NotFound when the
        namespace is missing.
        """
        ...

    async def apply(self, kind: Kind, resource: Resource) -> Resource:
        """Server-side apply: make it so, whatever was there; fields of other managers that it names become ours."""
        ...

    async def replace(self, kind: Kind, resource: Resource) -> Resource:
        """Raises KubeConflict when its resourceVersion isn't the newest, NotFound."""
        ...

    async def merge(self, kind: Kind, name: str, namespace: str | None, change: Resource) -> Resource:
        """JSON merge patch. Raises NotFound; KubeConflict when `change` names another `metadata.uid`."""
        ...

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
        """An absent one is no error. With `uid`, another object of the same name is left alone, with `version` one that
        was changed (KubeConflict).
        """
        ...

    def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "", version: str
    ) -> AsyncGenerator[Change, None]:
        """Changes after `version`, until the server ends the stream, which it does every few minutes. Raises TooOld."""
        ...


def labels_of(resource: Resource) -> Mapping[str, str]:
    labels: Mapping[str, str] = resource["metadata"].get("labels") or {}
    return labels
