"""Tenants and clusters in memory, kept by watching their buckets; still there while the bus is away."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from services.gateway.refusals import NoSuchTenant
from shared.bus import Bus, Entry
from shared.errors import Poison, Unavailable
from shared.flow import CLUSTERS, TENANTS
from shared.stream import Bucket
from shared.tenancy import ApiKey, ClusterRecord, TenantRecord
from shared.wire import Model, decode

log = structlog.get_logger()

M = TypeVar("M", bound=Model)
RETRY_SECONDS = 0.5


class Watched(Generic[M]):
    """The newest readable value of every key of a bucket. `run` keeps it so."""

    def __init__(self, bus: Bus, bucket: Bucket, model: type[M], changed: Callable[[], None] = lambda: None) -> None:
        self._bus, self._bucket, self._model, self._changed = bus, bucket, model, changed
        self._records: dict[str, M] = {}
        self.removed: set[str] = set()
        """Keys that were there once and were deleted."""
        self.loaded = asyncio.Event()

    def get(self, key: str) -> M | None:
        return self._records.get(key)

    def values(self) -> list[M]:
        return list(self._records.values())

    async def run(self) -> None:
        """Never returns. Rides out an absent bus."""
        while True:
            try:
                await self._load()
                async for entry in self._bus.bucket(self._bucket).watch():
                    self._apply(entry)
                    self._changed()
            except Unavailable as error:
                log.warning("bucket_unavailable", bucket=self._bucket.name, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _load(self) -> None:
        entries = await self._bus.bucket(self._bucket).all()
        for gone in self._records.keys() - entries.keys():
            del self._records[gone]
        for entry in entries.values():
            self._apply(entry)
        self._changed()
        self.loaded.set()

    def _apply(self, entry: Entry) -> None:
        if entry.deleted:
            self._records.pop(entry.key, None)
            self.removed.add(entry.key)
            return
        self.removed.discard(entry.key)
        try:
            self._records[entry.key] = self._own(entry)
        except Poison as error:
            # The last readable value stays: an operator's slip must not lock a tenant out.
            log.error("bucket_value_unreadable", bucket=self._bucket.name, key=entry.key, error=str(error))  # noqa: TRY400

    def _own(self, entry: Entry) -> M:
        record = decode(self._model, entry.value)
        if entry.key not in (getattr(record, "tenant", None), getattr(record, "cluster", None)):
            # Else one tenant's keys would open another's door.
            raise Poison(why="the record is another one's than its key says")
        return record


class Directory:
    """Who the tenants are, which key is whose, and how machines of a cluster reach the bus."""

    def __init__(self, bus: Bus) -> None:
        self._keys: dict[str, tuple[str, ApiKey]] = {}
        self._wakes: list[Callable[[], None]] = []
        self.tenants = Watched(bus, TENANTS, TenantRecord, self._index_keys)
        self.clusters = Watched(bus, CLUSTERS, ClusterRecord)

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever a tenant's record changed."""
        self._wakes.append(wake)

    def closing(self) -> list[str]:
        """Tenants that are being deleted."""
        return sorted(record.tenant for record in self.tenants.values() if record.closing_unix is not None)

    def _index_keys(self) -> None:
        self._keys = {key.id: (record.tenant, key) for record in self.tenants.values() for key in record.api_keys}
        for wake in self._wakes:
            wake()

    def key(self, key_id: str) -> tuple[str, ApiKey] | None:
        """(tenant, key)"""
        return self._keys.get(key_id)

    def tenant(self, tenant: str) -> TenantRecord:
        """Raises NoSuchTenant."""
        record = self.tenants.get(tenant)
        if record is None or record.closing_unix is not None:
            raise NoSuchTenant(tenant=tenant)
        return record

    @property
    def loaded(self) -> bool:
        return self.tenants.loaded.is_set() and self.clusters.loaded.is_set()
