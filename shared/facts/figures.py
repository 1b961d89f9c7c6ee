"""What a service counted over a stretch of time, so that figures outlive every restart."""

from pydantic import Field

from shared.facts.core import Fact
from shared.ids import ClusterId, PoolId, TenantId
from shared.wire import Model


class Counted(Fact):
    """Common head: from when to when, by the wall clock of whoever counted."""

    since_unix_ns: int = Field(ge=0)
    until_unix_ns: int = Field(ge=0)


class Refusals(Model):
    """How often a door said no for one reason. `tenant` None: nobody knows who asked."""

    kind: str = Field(max_length=40)
    tenant: TenantId | None = None
    count: int = Field(ge=1)


class RefusalsCounted(Counted, kind="refusals.counted"):
    """What the doors refused."""

    refusals: list[Refusals] = Field(max_length=10_000)


class PoolCapacity(Model):
    """What the ready machines of a pool had to give: what there was, times how long."""

    pool: PoolId
    core_seconds: float = Field(ge=0)
    memory_byte_seconds: float = Field(ge=0)


class CapacityCounted(Counted, kind="capacity.counted"):
    """A minute, or so, of a cluster's capacity."""

    cluster: ClusterId
    pools: list[PoolCapacity] = Field(max_length=1000)
