"""What keeps a tenant's pods to themselves, as an edge is told it."""

from pydantic import Field, IPvAnyNetwork

from shared.ids import TenantId
from shared.wire import Model


class Egress(Model):
    """Where pods may connect to. No ports: all of them."""

    cidr: IPvAnyNetwork
    ports: list[int] = Field(default_factory=list, max_length=32)


class Quota(Model):
    """Of all of a tenant's pods in one namespace at once; None: no bound."""

    cpu_millis: int | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    pods: int | None = Field(default=None, gt=0)


class TenantWalls(Model):
    """One tenant in one cluster."""

    tenant: TenantId
    namespaces: list[str] = Field(min_length=1, max_length=257)
    """The default one, and those of the tenant's record."""
    quota: Quota = Quota()
    egress: list[Egress] = Field(default_factory=list, max_length=64)
    """Beyond the public internet: addresses inside private ranges that this tenant may reach."""
