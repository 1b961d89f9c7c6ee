"""Whoever has a record in TENANTS or CLUSTERS gets accounts on the bus, however the record came there."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from shared.adapters.accounts import Accounts
from shared.bus import Bus, Entry
from shared.errors import OverspillError, Poison, Rejected
from shared.flow import CLUSTERS, TENANTS
from shared.stream import Bucket
from shared.tenancy import ClusterRecord
from shared.wire import decode

log = structlog.get_logger()

RETRY_SECONDS = 2.0


async def follow(accounts: Accounts, bus: Bus) -> None:
    """Runs until cancelled. A removed record leaves its accounts: their credentials may still tell of running jobs."""

    async def tenant(entry: Entry) -> None:
        await accounts.add_tenant(entry.key)

    async def cluster(entry: Entry) -> None:
        serves = decode(ClusterRecord, entry.value).tenants
        await accounts.add_cluster(entry.key, None if serves is None else tuple(serves))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_each(bus, TENANTS, tenant))
        tasks.create_task(_each(bus, CLUSTERS, cluster))


async def _each(bus: Bus, bucket: Bucket, add: Callable[[Entry], Coroutine[Any, Any, None]]) -> None:
    async for entry in bus.bucket(bucket).watch():
        while not entry.deleted:
            try:
                await add(entry)
            except (Rejected, Poison) as error:  # it comes again when it is mended
                log.warning("account_not_added", bucket=bucket.name, key=entry.key, why=str(error))
            except OverspillError as error:
                log.info("account_waits", bucket=bucket.name, key=entry.key, why=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            break
