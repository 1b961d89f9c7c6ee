"""What the platform knows of tenants and clusters: the values of the buckets TENANTS and CLUSTERS.

The key of a record is the tenant's or cluster's id: `bus.bucket(TENANTS).put(record.tenant, encode(record))`.
"""

import hashlib
import hmac
import re
import secrets
from typing import Literal

from pydantic import Field

from shared.ids import ClusterId, PoolId, TenantId
from shared.needs import GIB, Capacity
from shared.pods import PodTemplate
from shared.principal import Role
from shared.spec import SPEC_LIMIT_BYTES
from shared.walls import Egress, Quota, TenantWalls
from shared.wire import Model

DAY_SECONDS = 86_400
MAX_KEYS = 200
"""Of a tenant."""
PoolKind = Literal["fixed", "agents", "serverless"]

_API_KEY = re.compile(r"osp_([a-z0-9]{1,32})_([A-Za-z0-9_-]{43})")


class ApiKey(Model):
    """A key of the HTTP door as it is stored: the token itself is shown once, when it is made."""

    id: str = Field(pattern=r"^[a-z0-9]{1,32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole token."""
    role: Role = Role.SUBMITTER
    name: str = Field(default="", max_length=100)
    """For people; shown as `key:<name>`."""
    created_unix: int = 0
    expires_unix: int | None = None

    def opens_with(self, token: str) -> bool:
        """Takes the same time for every wrong token."""
        return hmac.compare_digest(self.sha256, hashlib.sha256(token.encode()).hexdigest())


def new_api_key(name: str, role: Role, created_unix: int, expires_unix: int | None = None) -> tuple[str, ApiKey]:
    """A fresh token `osp_<id>_<secret>` of 256 random bits, and what to store of it."""
    key_id = secrets.token_hex(6)
    token = f"osp_{key_id}_{secrets.token_urlsafe(32)}"
    stored = ApiKey(
        id=key_id,
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        role=role,
        name=name,
        created_unix=created_unix,
        expires_unix=expires_unix,
    )
    return token, stored


def api_key_id(token: str) -> str | None:
    """The id inside a token, None when it is no API key by its form."""
    match = _API_KEY.fullmatch(token)
    return match[1] if match else None


class TenantLimits(Model):
    """What a tenant may use. The gateway holds the door (queued, sizes, rates), the scheduler what runs at once."""

    max_active_jobs: int = Field(default=1000, ge=0)
    """Placed at once; more wait in the queue."""
    max_queued_jobs: int = Field(default=20_000, ge=0)
    """Waiting at once; the door refuses more with 429. May be exceeded by what is admitted within half a second."""
    max_priority: int = Field(default=100, ge=-100, le=100)
    max_spec_bytes: int = Field(default=SPEC_LIMIT_BYTES, ge=1, le=SPEC_LIMIT_BYTES)
    max_source_bytes: int = Field(default=5 * 2**30, ge=1, le=5 * 2**30)
    """Of one packed tree."""
    max_timeout_seconds: float = Field(default=7 * DAY_SECONDS, gt=0)
    max_cpu_millis: int | None = None
    """Of one job; None: no bound."""
    max_memory_bytes: int | None = None
    max_disk_bytes: int | None = None
    machine_types: list[str] | None = None
    """Named sizes that may be used; `custom` allows own sizes. None: all, and own ones."""
    requests_per_second: float = Field(default=500, gt=0)
    """At the HTTP door, sustained."""
    request_burst: int = Field(default=1000, ge=1)
    submissions_per_second: float = Field(default=200, gt=0)
    """At the bus door, sustained. What comes faster waits in the stream while other tenants' pass; none is lost."""
    submission_burst: int = Field(default=1000, ge=1)


class TenantRecord(Model):
    """Bucket TENANTS, key = tenant."""

    tenant: TenantId
    display_name: str = Field(default="", max_length=200)
    namespaces: list[str] = Field(default_factory=list, max_length=256)
    """Kubernetes namespaces its jobs may name; a job without one runs in `default_namespace`."""
    pod_quota: Quota = Quota()
    """Of all its pods in one namespace of one cluster."""
    egress: list[Egress] = Field(default_factory=list, max_length=64)
    """Private addresses that its pods may reach."""
    weight: float = Field(default=1.0, gt=0, le=1_000_000)
    """Fair share: twice the weight is entitled to twice the machines."""
    limits: TenantLimits = TenantLimits()
    log_retention_seconds: float = Field(default=30 * DAY_SECONDS, gt=0)
    history_seconds: float = Field(default=90 * DAY_SECONDS, gt=0)
    api_keys: list[ApiKey] = Field(default_factory=list, max_length=MAX_KEYS)
    closing_unix: int | None = None
    """Since when it is being deleted: nobody comes in for it, its jobs end, then all that is left of it goes."""

    @property
    def default_namespace(self) -> str:
        return f"overspill-{self.tenant}"

    @property
    def walls(self) -> TenantWalls:
        namespaces = list(dict.fromkeys([self.default_namespace, *self.namespaces]))
        return TenantWalls(tenant=self.tenant, namespaces=namespaces, quota=self.pod_quota, egress=self.egress)


SERVERLESS_LIMIT = Capacity(cpu_millis=1_000_000, memory_bytes=4096 * GIB, disk_bytes=65_536 * GIB)


class ClusterPool(Model):
    """A pool of a cluster and what kind of machines it has."""

    pool: PoolId
    kind: PoolKind = "agents"
    pod: PodTemplate = PodTemplate()
    """Of `fixed` and `serverless` pools. Nodes whose labels its `node_selector` asks for are the pool's own."""
    limit: Capacity = SERVERLESS_LIMIT
    """Of a `serverless` pool: what all its pods together may request."""


class ClusterRecord(Model):
    """Bucket CLUSTERS, key = cluster: what must be known of a cluster before it says anything itself."""

    cluster: ClusterId
    display_name: str = Field(default="", max_length=200)
    bus_urls: list[str] = Field(min_length=1, max_length=16)
    """Addresses of the bus as its machines and pods reach it."""
    object_url: str | None = None
    """Address of the object store as its machines and pods reach it; None: the public one of the cache's settings."""
    pools: list[ClusterPool] = Field(default_factory=list, max_length=64)
    tenants: list[TenantId] | None = None
    """Only these may run here; None: all."""
    cordoned: bool = False
    """Nothing more is placed here; what runs goes on."""

    def serves(self, tenant: str) -> bool:
        return self.tenants is None or tenant in self.tenants
