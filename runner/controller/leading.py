"""Which of several controllers acts: a Lease object of the cluster they act on.

It is the cluster's own (coordination.k8s.io), so the edge needs nothing of the hub for it, and who can't reach the API
server can't act on it either. Method: that of client-go's leader election. A lease is judged by how long it has not
changed by our own monotonic clock; its times are for people. It is soft: who slept may believe that it leads for as
long as one request lasts. Nothing depends on it but work done twice: pods are made by name and their ends told once.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from shared.clock import Clock
from shared.errors import NotFound, OverspillError, Unavailable
from shared.kube import LEASE, KubeApi, KubeConflict, Resource

log = structlog.get_logger()

NAME = "overspill-controller"
USED = 0.75
"""Of the lease's time: past it since the last renewal nothing is begun any more."""
RENEWALS = 4
"""In one lease's time; after one that failed the next comes five times as soon."""


class LeaseLost(OverspillError):
    """The lease of the controllers lapsed or went to another instance; this one follows."""

    code = "lease_lost"


class KubeLease:
    """One instance's hand on the lease."""

    def __init__(self, api: KubeApi, clock: Clock, namespace: str, identity: str, seconds: float) -> None:
        self._api, self._clock = api, clock
        self._namespace, self._identity, self._seconds = namespace, identity, seconds
        self._until = 0.0
        self._ours: Resource | None = None
        self._seen: tuple[str, float] = ("", 0.0)
        """The newest version and when we first saw it."""

    def holds(self) -> bool:
        """Whether something may be begun now."""
        return self._clock.monotonic() < self._until

    async def stand(self, looked: Callable[[], None] = lambda: None) -> None:
        """Returns once we lead. Rides out an absent API server. Raises NotFound when the namespace is missing.

        `looked` is called before each look at the lease.
        """
        while True:
            looked()
            try:
                if await self._take():
                    log.info("leading", identity=self._identity)
                    return
            except Unavailable as error:
                log.info("lease_unknown", why=str(error)[:300])
            await asyncio.sleep(self._seconds / RENEWALS)

    async def keep(self) -> None:
        """Renew until cancelled. Raises LeaseLost."""
        pause = self._seconds / RENEWALS
        while True:
            await asyncio.sleep(pause)
            pause = self._seconds / RENEWALS
            if not self.holds():
                raise LeaseLost
            try:
                async with asyncio.timeout(max(0.0, self._until - self._clock.monotonic())):
                    if not await self._take():
                        self._until = 0.0
                        raise LeaseLost
            except (TimeoutError, Unavailable) as error:
                log.info("lease_not_renewed", why=str(error)[:300] or "no answer in time")
                pause /= 5

    async def release(self) -> None:
        """Let the next one lead at once. Best effort: it lapses anyhow."""
        if not self.holds():
            return
        self._until, self._ours = 0.0, None
        try:
            async with asyncio.timeout(2.0):
                found = await self._api.get(LEASE, NAME, self._namespace)
                if found["spec"].get("holderIdentity") == self._identity:
                    await self._api.replace(LEASE, {**found, "spec": {**found["spec"], "holderIdentity": ""}})
        except (TimeoutError, OverspillError) as error:
            log.info("lease_left_to_lapse", why=str(error)[:300])

    async def _take(self) -> bool:
        """Whether the lease is ours from now on. Ours is replaced as we left it, without a look."""
        since = self._clock.monotonic()
        found, self._ours = self._ours or await self._found(), None
        for _ in range(2):
            try:
                if found is None:
                    self._ours = await self._api.create(LEASE, self._lease({}))
                elif self._may_have(found):
                    self._ours = await self._api.replace(LEASE, {**found, "spec": self._lease(found["spec"])["spec"]})
                else:
                    return False
            except (KubeConflict, NotFound):
                found = await self._found()  # somebody was faster: another, or we, whose answer was lost
            else:
                self._until = since + self._seconds * USED
                return True
        return False

    async def _found(self) -> Resource | None:
        try:
            return await self._api.get(LEASE, NAME, self._namespace)
        except NotFound:
            return None

    def _may_have(self, found: Resource) -> bool:
        spec, version = found["spec"], found["metadata"]["resourceVersion"]
        now = self._clock.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
        holder = spec.get("holderIdentity") or ""
        lapses = float(spec.get("leaseDurationSeconds") or self._seconds)
        return holder in ("", self._identity) or now - self._seen[1] >= lapses

    def _lease(self, before: dict[str, Any]) -> Resource:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self._identity
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "acquireTime": before.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": before.get("leaseTransitions", 0) + (0 if ours else 1),
            },
        }
