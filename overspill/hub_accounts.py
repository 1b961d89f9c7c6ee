"""Whoever has a record in TENANTS or CLUSTERS has accounts on the bus, however the record came or went."""

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
    """Runs until cancelled. A record that was deleted takes its accounts along; one that was never there says nothing:
    a bus that lost its store must not lock everybody out.
    """

    async def tenant(entry: Entry) -> None:
        if entry.deleted:
            await accounts.remove("tenant", entry.key)
            await accounts.remove("attempts", entry.key)
            return
        await accounts.add_tenant(entry.key)

    async def cluster(entry: Entry) -> None:
        if entry.deleted:
            await accounts.remove("cluster", entry.key)
            return
        serves = decode(ClusterRecord, entry.value).tenants
        await accounts.add_cluster(entry.key, None if serves is None else tuple(serves))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_each(bus, TENANTS, tenant))
        tasks.create_task(_each(bus, CLUSTERS, cluster))


async def _each(bus: Bus, bucket: Bucket, keep: Callable[[Entry], Coroutine[Any, Any, None]]) -> None:
    async for entry in bus.bucket(bucket).watch():
        while True:
            try:
                await keep(entry)
            except (Rejected, Poison) as error:  # it comes again when it is mended
                log.warning("account_not_kept", bucket=bucket.name, key=entry.key, why=str(error))
            except OverspillError as error:
                log.info("account_waits", bucket=bucket.name, key=entry.key, why=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            break
