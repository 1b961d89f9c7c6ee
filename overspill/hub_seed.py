"""What the hub makes sure of before its services start: streams, accounts, and the first tenant and cluster."""

import asyncio
import hashlib
import time
from collections.abc import Callable

import structlog

from shared.adapters.accounts import Accounts
from shared.adapters.identity import Identity
from shared.adapters.nats_bus import NatsBus
from shared.adapters.nats_permissions import PROVISIONER, SEEDER
from shared.adapters.provision import provision
from shared.bus import KeyValue
from shared.errors import Rejected, Unavailable, WrongSequence
from shared.flow import CLUSTERS, TENANTS
from shared.principal import Role
from shared.stream import STORE_BYTES
from shared.tenancy import ApiKey, ClusterPool, ClusterRecord, TenantLimits, TenantRecord, api_key_id
from shared.wire import decode, encode

log = structlog.get_logger()

TENANT = "default"
CLUSTER = "local"
POOL = "local"
KEY_NAME = "up"
LIMITS = TenantLimits(submissions_per_second=1000, submission_burst=10_000)
"""Of the first tenant: while it is the only one there is nobody to let pass."""
BUS_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class BadToken(Rejected):
    """The token file holds no API token (osp_<id>_<secret>); delete it, and `overspill up` makes a new one."""


async def prepare(url: str, identity: Identity, token: str, store_bytes: int = STORE_BYTES, replicas: int = 1) -> None:
    """Idempotent. Raises Unavailable when the bus doesn't come, BadToken, AccountRefused."""
    deadline = time.monotonic() + BUS_WAIT_SECONDS
    while True:
        try:
            await _prepare(url, identity, token, store_bytes, replicas)
        except Unavailable as error:
            # A server may need a moment to open its streams, and several to agree on who leads.
            if time.monotonic() > deadline:
                raise
            log.info("bus_waits", why=str(error))
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            return


async def _prepare(url: str, identity: Identity, token: str, store_bytes: int, replicas: int) -> None:
    async with NatsBus.connect(url, identity.credential(PROVISIONER), name="provisioner") as bus:
        await provision(bus, replicas, store_bytes)
    async with Accounts.connect(url, identity) as accounts:
        await accounts.add_tenant(TENANT)
        await accounts.add_cluster(CLUSTER)
    async with NatsBus.connect(url, identity.credential(SEEDER), name="seeder") as bus:
        await _change(bus.bucket(TENANTS), TENANT, lambda value: encode(_tenant(value, token)))
        await _change(bus.bucket(CLUSTERS), CLUSTER, lambda value: encode(_cluster(value, url)))


def _tenant(value: bytes | None, token: str) -> TenantRecord:
    """The record with this token's key as the only one of its name; everything else as it was."""
    key_id = api_key_id(token)
    if key_id is None:
        raise BadToken
    record = TenantRecord(tenant=TENANT, limits=LIMITS) if value is None else decode(TenantRecord, value)
    digest = hashlib.sha256(token.encode()).hexdigest()
    if any(key.sha256 == digest for key in record.api_keys):
        return record
    others = [key for key in record.api_keys if key.name != KEY_NAME]
    key = ApiKey(id=key_id, sha256=digest, role=Role.OPERATOR, name=KEY_NAME, created_unix=int(time.time()))
    return record.model_copy(update={"api_keys": [*others, key]})


def _cluster(value: bytes | None, url: str) -> ClusterRecord:
    """The record with the bus' address of today."""
    pools = [ClusterPool(pool=POOL, kind="agents")]
    if value is None:
        return ClusterRecord(cluster=CLUSTER, display_name="this machine", bus_urls=[url], pools=pools)
    return decode(ClusterRecord, value).model_copy(update={"bus_urls": [url]})


async def _change(bucket: KeyValue, key: str, change: Callable[[bytes | None], bytes]) -> None:
    """Compare-and-set until nobody came between; nothing is written when nothing changes."""
    while True:
        entry = await bucket.get(key)
        value = change(entry.value if entry else None)
        if entry is not None and entry.value == value:
            return
        try:
            if entry is None:
                await bucket.create(key, value)
            else:
                await bucket.update(key, value, entry.revision)
        except WrongSequence:
            continue
        log.info("record_seeded", bucket_key=key)
        return
