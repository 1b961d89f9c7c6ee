"""What the scheduler knows of a job, what it hears, and what it may want done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.facts import AttemptEnded, Desired, JobRecord, MachineSeen, Order
from shared.placement import Target, Want
from shared.tenancy import ClusterRecord, TenantRecord

Key = tuple[str, str]
"""(tenant, job)"""
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers decisions depend on."""

    accept_seconds: float = 10.0
    retry_seconds: float = 2.0
    fence_seconds: float = 30.0
    fence_margin_seconds: float = 10.0
    kill_grace_seconds: float = 10.0
    confirm_seconds: float = 30.0
    missing_seconds: float = 60.0
    queue_timeout_seconds: float = 86_400.0
    keep_seconds: float = 3600.0
    explain_after_seconds: float = 2.0
    starve_seconds: float = 60.0
    half_life_seconds: float = 600.0
    suspect_seconds: float = 60.0
    tick_seconds: float = 1.0
    max_in_flight: int = 512
    examine_limit: int = 500
    sweep_limit: int = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """An order as ORDERS holds it."""

    epoch: int
    desired: Desired
    seq: int
    since: float
    """When we knew that it stands; how long a machine has had to obey counts from here."""


@dataclass(slots=True)
class Job:
    """One job. `record` and `seq` are JOBS' newest as far as we know."""

    record: JobRecord
    seq: int
    want: Want
    accepted: dict[int, Target] = field(default_factory=dict)
    ended: dict[int, AttemptEnded] = field(default_factory=dict)
    orders: dict[Target, Standing] = field(default_factory=dict)
    accepted_unix_ns: dict[int, int] = field(default_factory=dict)
    """Of every epoch."""
    finished: dict[int, bool] = field(default_factory=dict)
    """Of attempts whose steps were weighed: whether the last one had ended by itself."""
    cancel_asked: bool = False
    forget_asked: bool = False
    """It was deleted: it is to end, and then to leave JOBS at once."""
    done: bool = False
    """DONE holds it."""
    in_flight: bool = False
    """An effect is being performed: none other is derived until it has landed."""
    placing: Target | None = None
    """Where the effect in flight would place it, or one whose outcome is unknown."""
    unsure: bool = False
    """An effect failed: what it did is to be read before anything else is done."""
    reserved: Target | None = None
    retry_at: float = 0.0
    failures: int = 0
    wake_at: float | None = None
    missing_since: float | None = None
    missing: bool = False
    """The machine has long been saying that it does not run the attempt it accepted."""

    @property
    def key(self) -> Key:
        return self.record.tenant, self.record.job

    @property
    def room(self) -> Target | None:
        """Where it takes room."""
        placement = self.record.placement
        return None if placement is None else Target(placement.cluster, placement.room or placement.target)

    @property
    def target(self) -> Target | None:
        """Where its orders go."""
        placement = self.record.placement
        return None if placement is None else Target(placement.cluster, placement.target)

    @property
    def order_key(self) -> tuple[int, int, str]:
        """Within its tenant: priority, then age. The record's own time survives every rebuild."""
        return -self.record.priority, self.record.created_unix_ns, self.record.job


# What is heard, beside the bus facts AttemptAccepted, AttemptEnded and CancelRequested themselves.


@dataclass(frozen=True, slots=True)
class RecordSeen:
    record: JobRecord
    seq: int


@dataclass(frozen=True, slots=True)
class JobGone:
    """Nothing is left of it in JOBS that is newer than `seq`."""

    key: Key
    seq: int


@dataclass(frozen=True, slots=True)
class MachineHeard:
    seen: MachineSeen
    at: float


@dataclass(frozen=True, slots=True)
class ClusterKnown:
    cluster: str
    record: ClusterRecord | None


@dataclass(frozen=True, slots=True)
class TenantKnown:
    tenant: str
    record: TenantRecord | None


@dataclass(frozen=True, slots=True)
class OrderStands:
    order: Order
    seq: int


@dataclass(frozen=True, slots=True)
class OrderGone:
    key: Key
    target: Target


@dataclass(frozen=True, slots=True)
class OrdersRead:
    """All orders of one job, as ORDERS holds them: (order, sequence)."""

    key: Key
    orders: tuple[tuple[Order, int], ...]


@dataclass(frozen=True, slots=True)
class Weighed:
    """How an attempt ended, by what its steps had told; `finished`: its last step had ended by itself."""

    ended: AttemptEnded
    finished: bool


@dataclass(frozen=True, slots=True)
class DoneStands:
    key: Key


@dataclass(frozen=True, slots=True)
class ForgetAsked:
    """A tombstone of the job stands."""

    key: Key


@dataclass(frozen=True, slots=True)
class Landed:
    """The effect in flight is over; the facts it brought were applied before."""

    key: Key
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """Facts flow again: what we could not hear until now is held against nobody."""


# What is to be done. Each concerns one job, and a job has at most one in flight.


@dataclass(frozen=True, slots=True)
class Over:
    """What an attempt's or a job's end was concluded from: for whoever tells its span and its figures."""

    before: JobRecord
    ended: AttemptEnded | None = None
    """None: the job ended without an attempt."""
    accepted_unix_ns: Mapping[int, int] = field(default_factory=dict)
    """When machines took its attempts, by epoch."""


@dataclass(frozen=True, slots=True)
class Move:
    """Write the record if its sequence is still `expect_seq`."""

    record: JobRecord
    expect_seq: int
    over: "Over | None" = None
    """Set when an attempt is over, or the job."""

    @property
    def key(self) -> Key:
        return self.record.tenant, self.record.job


@dataclass(frozen=True, slots=True)
class GiveOrder:
    order: Order
    expect_seq: int

    @property
    def key(self) -> Key:
        return self.order.tenant, self.order.job


@dataclass(frozen=True, slots=True)
class PurgeOrder:
    key: Key
    target: Target


@dataclass(frozen=True, slots=True)
class EndAttempt:
    """Tell that the attempt is over, unless somebody told it before.

    `unless` is looked up in EVT first: the attempt was accepted after all; or its last step has ended, so that it must
    not run again.
    """

    ended: AttemptEnded
    record: JobRecord
    unless: Literal["accepted", "finished"]

    @property
    def key(self) -> Key:
        return self.ended.tenant, self.ended.job


@dataclass(frozen=True, slots=True)
class WriteDone:
    record: JobRecord

    @property
    def key(self) -> Key:
        return self.record.tenant, self.record.job


@dataclass(frozen=True, slots=True)
class PurgeJob:
    key: Key
    seq: int
    though_untold: bool = False
    """Even if its last record never reached the history."""


@dataclass(frozen=True, slots=True)
class Weigh:
    """Look up what the steps of an attempt told before it is run again."""

    ended: AttemptEnded
    record: JobRecord

    @property
    def key(self) -> Key:
        return self.ended.tenant, self.ended.job


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read the record and the orders as the leaders of their streams have them."""

    key: Key
    seq: int


Effect = Move | ReadBack | Weigh | GiveOrder | PurgeOrder | EndAttempt | WriteDone | PurgeJob
