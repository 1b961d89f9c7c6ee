"""Keeps the tenants' walls: there before a tenant's first pod, mended when somebody made a hole."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from runner.controller.model import CLUSTER, TENANT
from runner.controller.walls import MANAGED, QUOTA, Surroundings, walls
from shared.errors import NotFound, OverspillError, Rejected
from shared.kube import (
    CONFIG_MAP,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    SERVICE_ACCOUNT,
    KubeApi,
    KubeRefused,
    NamespaceGoes,
    Resource,
    labels_of,
)
from shared.requests import WallsStanding, WallsTold
from shared.walls import Quota, TenantWalls

log = structlog.get_logger()

KINDS = {
    kind.kind: kind for kind in (NAMESPACE, SERVICE_ACCOUNT, NETWORK_POLICY, LIMIT_RANGE, RESOURCE_QUOTA, CONFIG_MAP)
}


ASKED_AT_ONCE = 100
Ask = Callable[[list[WallsStanding]], Awaitable[WallsTold]]


class NotOurs(Rejected):
    """The namespace {namespace} was there before and is not labelled as {tenant}'s: name another in its record, or
    give it the labels app.kubernetes.io/managed-by=overspill and overspill.dev/tenant={tenant}.
    """

    code = "namespace_not_ours"
    status = 409


class WallKeeper:
    """`cluster`: as the hub calls it. `entrypoints`: binaries by architecture."""

    def __init__(
        self,
        api: KubeApi,
        cluster: str,
        around: Surroundings,
        entrypoints: Mapping[str, bytes],
    ) -> None:
        self._api, self._cluster, self._around, self._entrypoints = api, cluster, around, entrypoints
        self._stand: dict[str, TenantWalls] = {}
        self._wrong: dict[str, str] = {}
        """Why a tenant's walls do not stand."""
        self._begun: dict[str, tuple[TenantWalls, int]] = {}
        """How many walls of those that are being built stand: an API server in a storm would let no row of calls
        through as a whole."""
        self._building: dict[str, asyncio.Lock] = {}

    async def ensure(self, tenant: TenantWalls) -> None:
        """The tenant's walls stand, as far as we know. Raises Unavailable, KubeRefused."""
        if self._stand.get(tenant.tenant) == tenant:
            return
        async with self._building.setdefault(tenant.tenant, asyncio.Lock()):
            if self._stand.get(tenant.tenant) != tenant:
                await self._go_on(tenant)
                self._stand[tenant.tenant] = tenant

    async def _go_on(self, tenant: TenantWalls) -> None:
        begun, standing = self._begun.pop(tenant.tenant, (tenant, 0))
        standing = standing if begun == tenant else 0
        for wall in list(walls(tenant, self._around, self._entrypoints))[standing:]:
            self._begun[tenant.tenant] = tenant, standing
            await self._apply(wall)
            standing += 1
        self._begun.pop(tenant.tenant, None)

    def doubt(self, tenant: str) -> None:
        """Something of the tenant's is missing: build before its next pod."""
        self._stand.pop(tenant, None)
        self._begun.pop(tenant, None)

    async def mend(self, every_seconds: float, ask: Ask, busy: Callable[[str], bool]) -> None:
        """Never returns. `ask`: what the hub says of these tenants. `busy`: whether something of a tenant is ordered
        or runs here.
        """
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self._follow_hub(ask, busy)
            except OverspillError as error:
                log.info("walls_not_asked", why=str(error)[:300])
            for tenant in list(self._stand.values()):
                await self._mend(tenant)

    async def _follow_hub(self, ask: Ask, busy: Callable[[str], bool]) -> None:
        """What another instance built, or we before a restart, is found by its labels. Raises Unavailable, Rejected."""
        found = (await self._api.list(NAMESPACE, labels=self._selector())).items
        tenants = sorted({labels_of(each)[TENANT] for each in found} | self._stand.keys())
        for start in range(0, len(tenants), ASKED_AT_ONCE):
            some = tenants[start : start + ASKED_AT_ONCE]
            told = await ask([self._standing(tenant) for tenant in some])
            for wanted in told.keep:
                self._stand[wanted.tenant] = wanted
            keep = {wanted.tenant: wanted.namespaces for wanted in told.keep} | {tenant: [] for tenant in told.gone}
            for tenant, namespaces in keep.items():
                if busy(tenant):
                    continue  # its jobs end first
                if tenant in told.gone:
                    self.doubt(tenant)
                    self._wrong.pop(tenant, None)
                await self._remove(each for each in found if _is_left(each, tenant, namespaces))

    def _selector(self) -> str:
        managed = ",".join(f"{name}={value}" for name, value in MANAGED.items())
        return f"{managed},{CLUSTER}={self._cluster},{TENANT}"

    def _standing(self, tenant: str) -> WallsStanding:
        why = self._wrong.get(tenant, "")
        return WallsStanding(tenant=tenant, stands=not why, why=why)

    async def _remove(self, namespaces: Iterable[Resource]) -> None:
        for namespace in namespaces:
            about = namespace["metadata"]
            if about.get("deletionTimestamp") is None:
                # Whoever took our labels away in the meantime changed its version, and keeps it.
                await self._api.delete(NAMESPACE, about["name"], uid=about["uid"], version=about["resourceVersion"])
                log.info("walls_removed", tenant=labels_of(namespace)[TENANT], namespace=about["name"])

    async def _mend(self, tenant: TenantWalls) -> None:
        try:
            for wall in walls(tenant, self._around, self._entrypoints):
                await self._apply(wall)
            if tenant.quota == Quota():
                for namespace in tenant.namespaces:
                    await self._api.delete(RESOURCE_QUOTA, QUOTA, namespace)
        except OverspillError as error:
            self._wrong[tenant.tenant] = str(error)[:300]
            log.warning("walls_not_mended", tenant=tenant.tenant, why=str(error)[:300])
        else:
            self._wrong.pop(tenant.tenant, None)

    async def _own(self, wall: Resource) -> None:
        """Raises NotOurs: who made a namespace before us, and what for, we can't know. Raises NamespaceGoes: what is
        applied to one that goes may find it gone, and make it without our labels.
        """
        name, wanted = wall["metadata"]["name"], wall["metadata"]["labels"]
        try:
            found = await self._api.get(NAMESPACE, name)
        except NotFound:
            about = {"name": name, "labels": {**wanted, CLUSTER: self._cluster}}
            found = await self._api.create(NAMESPACE, {**wall, "metadata": about})
        labels = labels_of(found)
        if any(labels.get(each) != wanted[each] for each in (*MANAGED, TENANT)):
            raise NotOurs(namespace=name, tenant=wanted[TENANT])
        if found["metadata"].get("deletionTimestamp") is not None:
            raise NamespaceGoes(what=f"namespace {name}", why="it is being deleted", status=403, reason="Forbidden")

    async def _apply(self, wall: Resource) -> None:
        kind = KINDS[wall["kind"]]
        if kind == NAMESPACE:
            await self._own(wall)
        try:
            await self._api.apply(kind, wall)
        except KubeRefused as refused:
            if not wall.get("immutable") or refused.reason != "Invalid":
                raise
            # Another version's entrypoint. Pods that mounted it keep what they have.
            await self._api.delete(kind, wall["metadata"]["name"], wall["metadata"]["namespace"])
            await self._api.apply(kind, wall)


def _is_left(namespace: Resource, tenant: str, keep: Iterable[str]) -> bool:
    return labels_of(namespace)[TENANT] == tenant and namespace["metadata"]["name"] not in keep
