"""Keeps the tenants' walls: there before a tenant's first pod, mended when somebody made a hole."""

import asyncio
from collections.abc import Mapping

import structlog

from runner.controller.walls import Surroundings, walls
from shared.errors import OverspillError
from shared.kube import (
    CONFIG_MAP,
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
    SERVICE_ACCOUNT,
    KubeApi,
    KubeRefused,
    Resource,
)
from shared.walls import TenantWalls

log = structlog.get_logger()

KINDS = {
    kind.kind: kind for kind in (NAMESPACE, SERVICE_ACCOUNT, NETWORK_POLICY, LIMIT_RANGE, RESOURCE_QUOTA, CONFIG_MAP)
}


class WallKeeper:
    """`entrypoints`: binaries by architecture."""

    def __init__(self, api: KubeApi, around: Surroundings, entrypoints: Mapping[str, bytes]) -> None:
        self._api, self._around, self._entrypoints = api, around, entrypoints
        self._stand: dict[str, TenantWalls] = {}
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

    async def mend(self, every_seconds: float) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(every_seconds)
            for tenant in list(self._stand.values()):
                try:
                    for wall in walls(tenant, self._around, self._entrypoints):
                        await self._apply(wall)
                except OverspillError as error:
                    log.warning("walls_not_mended", tenant=tenant.tenant, why=str(error)[:300])

    async def _apply(self, wall: Resource) -> None:
        kind = KINDS[wall["kind"]]
        try:
            await self._api.apply(kind, wall)
        except KubeRefused as refused:
            if not wall.get("immutable") or refused.reason != "Invalid":
                raise
            # Another version's entrypoint. Pods that mounted it keep what they have.
            await self._api.delete(kind, wall["metadata"]["name"], wall["metadata"]["namespace"])
            await self._api.apply(kind, wall)
