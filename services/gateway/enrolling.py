"""Where operators change the records of clusters and tenants, by compare-and-set; all else follows from them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from services.gateway.refusals import (
    ClusterInUse,
    CordonUnconfirmed,
    InvalidBody,
    NamespaceTaken,
    TenantCloses,
    TenantInUse,
    TooManyKeys,
)
from shared.bus import Bus
from shared.errors import NotFound, OverspillError, Poison, Unavailable, WrongSequence
from shared.facts import JobRecord
from shared.flow import CLUSTERS, JOBS, TENANTS, Job, Svc
from shared.lifecycle import JobState
from shared.requests import CordonAsked
from shared.stream import Bucket
from shared.tenancy import MAX_KEYS, ApiKey, ClusterRecord, TenantRecord
from shared.wire import Model, decode, encode

log = structlog.get_logger()

M = TypeVar("M", bound=Model)

TRIES = 5
CORDON_SECONDS = 5.0
"""How long a scheduler may take to hear of a cordon; a new leader is there by then."""
LOOK_SECONDS = 0.05
NAMED = 3
"""Jobs that a refusal names."""
RESERVED = ("default", "kube-", "overspill-")
"""Beginnings of namespaces that are somebody else's: Kubernetes', the edge's, or a tenant's default one."""


class Enrolling:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def cluster(self, name: str, changes: Mapping[str, Any]) -> tuple[ClusterRecord, bool]:
        """What `changes` leaves out stays as it was. (record, whether it is new.) Raises InvalidBody."""

        def change(before: ClusterRecord | None) -> ClusterRecord:
            return _changed(ClusterRecord, {"cluster": name}, before, changes)

        return await self._change(CLUSTERS, ClusterRecord, name, change)

    async def tenant(self, name: str, changes: Mapping[str, Any]) -> tuple[TenantRecord, bool]:
        """As `cluster`. Raises InvalidBody, TenantCloses, NamespaceTaken."""
        owners = await self._owners()

        def change(before: TenantRecord | None) -> TenantRecord:
            if before is not None and before.closing_unix is not None:
                raise TenantCloses(tenant=name)
            record = _changed(TenantRecord, {"tenant": name}, before, changes)
            for namespace in record.namespaces:
                if namespace.startswith(RESERVED) and namespace != record.default_namespace:
                    raise NamespaceTaken(namespace=namespace, owner="the platform or Kubernetes")
                if owners.get(namespace, name) != name:
                    raise NamespaceTaken(namespace=namespace, owner=f"the tenant {owners[namespace]}")
            return record

        return await self._change(TENANTS, TenantRecord, name, change)

    async def keys(self, tenant: str) -> list[ApiKey]:
        """Raises NotFound."""
        entry = await self._bus.bucket(TENANTS).get(tenant)
        if entry is None:
            raise NotFound(what="tenant", name=tenant)
        return decode(TenantRecord, entry.value).api_keys

    async def add_key(self, tenant: str, key: ApiKey) -> None:
        """Raises NotFound, TenantCloses, TooManyKeys."""
        await self._change_keys(tenant, lambda keys: [*keys, key])

    async def revoke_key(self, tenant: str, key_id: str) -> None:
        """Raises NotFound, TenantCloses."""

        def without(keys: list[ApiKey]) -> list[ApiKey]:
            left = [key for key in keys if key.id != key_id]
            if len(left) == len(keys):
                raise NotFound(what=f"key of tenant {tenant} with the id", name=key_id)
            return left

        await self._change_keys(tenant, without)

    async def _change_keys(self, tenant: str, changed: Callable[[list[ApiKey]], list[ApiKey]]) -> None:
        def change(before: TenantRecord | None) -> TenantRecord:
            if before is None:
                raise NotFound(what="tenant", name=tenant)
            if before.closing_unix is not None:
                raise TenantCloses(tenant=tenant)
            keys = changed(before.api_keys)
            if len(keys) > MAX_KEYS:
                raise TooManyKeys(tenant=tenant, limit=MAX_KEYS)
            return before.model_copy(update={"api_keys": keys})

        await self._change(TENANTS, TenantRecord, tenant, change)

    async def remove_cluster(self, name: str, *, force: bool) -> None:
        """Without `force` it is cordoned before its jobs are looked for; refused, it is as it was. Raises NotFound,
        ClusterInUse, CordonUnconfirmed.
        """
        bucket = self._bus.bucket(CLUSTERS)
        entry = await bucket.get(name)
        if entry is None:
            raise NotFound(what="cluster", name=name)
        revision = entry.revision
        if not force and not (record := decode(ClusterRecord, entry.value)).cordoned:
            cordoned = record.model_copy(update={"cordoned": True})
            revision = await bucket.update(name, encode(cordoned), revision)
            try:
                await self._check_unused(name, revision)
            except OverspillError:
                with contextlib.suppress(WrongSequence):  # whoever changed it meanwhile has the last word
                    await bucket.update(name, entry.value, revision)
                raise
        elif not force:
            await self._check_unused(name, revision)
        await bucket.delete(name, revision)
        log.info("cluster_removed", cluster=name)

    async def _check_unused(self, cluster: str, revision: int) -> None:
        """Raises ClusterInUse, CordonUnconfirmed."""
        await self._until_cordoned(cluster, revision)
        if there := await self.placed(lambda record: _cluster_of(record) == cluster):
            raise ClusterInUse(cluster=cluster, count=len(there), jobs=", ".join(there[:NAMED]))

    async def _until_cordoned(self, cluster: str, revision: int) -> None:
        """Until nothing more comes there: a scheduler hears of a cordon a moment later, and may place a job meanwhile.
        Raises CordonUnconfirmed.
        """
        asked, deadline = encode(CordonAsked(cluster=cluster, revision=revision)), time.monotonic() + CORDON_SECONDS
        while True:
            try:
                await self._bus.request(Svc("scheduler", "cordoned"), asked, timeout_seconds=CORDON_SECONDS)
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise CordonUnconfirmed(cluster=cluster, why=str(error)) from error
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    async def check_idle(self, tenant: str) -> None:
        """Raises TenantInUse."""
        if there := await self.placed(lambda record: record.tenant == tenant):
            raise TenantInUse(tenant=tenant, count=len(there), jobs=", ".join(there[:NAMED]))

    async def placed(self, wanted: Callable[[JobRecord], bool]) -> list[str]:
        """Ids of the jobs that are placed now, as the bus has them."""
        records = [decode(JobRecord, message.data) for message in await self._bus.last_each(JOBS, Job.filter())]
        return [record.job for record in records if record.state is JobState.PLACED and wanted(record)]

    async def _owners(self) -> dict[str, str]:
        """Tenants by namespace."""
        owners: dict[str, str] = {}
        for entry in (await self._bus.bucket(TENANTS).all()).values():
            try:
                record = decode(TenantRecord, entry.value)
            except Poison as poison:
                log.warning("tenant_record_ignored", tenant=entry.key, why=str(poison))
                continue
            owners |= dict.fromkeys(record.walls.namespaces, record.tenant)
        return owners

    async def _change(
        self, bucket: Bucket, model: type[M], name: str, change: Callable[[M | None], M]
    ) -> tuple[M, bool]:
        """Nothing is written when nothing changes."""
        store = self._bus.bucket(bucket)
        for last in range(TRIES):
            entry = await store.get(name)
            before = None if entry is None else decode(model, entry.value)
            after = change(before)
            try:
                if entry is None:
                    await store.create(name, encode(after))
                elif after != before:
                    await store.update(name, encode(after), entry.revision)
            except WrongSequence:
                if last == TRIES - 1:
                    raise
                continue
            return after, entry is None
        raise AssertionError


def _cluster_of(record: JobRecord) -> str | None:
    return None if record.placement is None else record.placement.cluster


def _merged(known: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Of an object that is changed, too, what is left out stays."""
    return {**known} | {
        name: _merged(known[name], value)
        if isinstance(value, Mapping) and isinstance(known.get(name), Mapping)
        else value
        for name, value in changes.items()
    }


def _changed(model: type[M], key: Mapping[str, str], before: M | None, changes: Mapping[str, Any]) -> M:
    known = {} if before is None else before.model_dump(mode="json", exclude=set(before.model_extra or ()))
    try:
        return model.model_validate({**_merged(known, changes), **key})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidBody(why=f"{where}: {first['msg']}") from error
