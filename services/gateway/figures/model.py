"""What figures are made from, and what they are."""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
WINDOWS = {"hour": HOUR, "day": DAY, "week": WEEK}
"""Seconds until now."""


class JobRow(NamedTuple):
    """A job as the projection has it; times in nanoseconds since the epoch, None: not yet, or not known."""

    state: str
    epoch: int
    created_ns: int
    placed_ns: int | None
    ended_ns: int | None
    first_accepted_ns: int | None
    accepted_ns: int | None
    """Of the newest attempt."""
    attempt_ended_ns: int | None
    prepare_seconds: float | None
    handover_seconds: float | None
    finish_seconds: float | None


class AttemptSpan(NamedTuple):
    """What an attempt reserved, and while."""

    cluster: str
    pool: str
    begin_ns: int
    end_ns: int | None
    cores: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits and runs at this instant."""

    waiting: int = 0
    oldest_ns: int | None = None
    """When the one that waits longest was accepted."""
    running: int = 0

    def plus(self, other: "Queue") -> "Queue":
        oldest = min((at for at in (self.oldest_ns, other.oldest_ns) if at is not None), default=None)
        return Queue(self.waiting + other.waiting, oldest, self.running + other.running)


@dataclass(slots=True)
class Stability:
    accepted: int = 0
    started_in_time: int = 0
    started_late: int = 0
    """Or not at all, and it is late already."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    our_errors: int = 0
    retried_attempts: int = 0

    def plus(self, other: "Stability") -> "Stability":
        return Stability(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def ended_truthfully(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.timed_out

    @property
    def share(self) -> float | None:
        """Of what is decided of promises: kept ones. None: nothing is decided yet."""
        starts, ends = self.started_in_time + self.started_late, self.ended_truthfully + self.our_errors
        if not starts and not ends:
            return None
        in_time = self.started_in_time / starts if starts else 1.0
        return in_time * (self.ended_truthfully / ends if ends else 1.0)


@dataclass(slots=True)
class Speed:
    jobs: int = 0
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """Mean seconds of a job, by part."""


@dataclass(slots=True)
class PoolCost:
    cluster: str
    pool: str
    cores: float = 0.0
    """Core-seconds there were to give."""
    cores_requested: float = 0.0
    memory_bytes: float = 0.0
    """Byte-seconds."""
    memory_requested: float = 0.0

    @property
    def cores_idle(self) -> float:
        return max(0.0, self.cores - self.cores_requested)

    @property
    def memory_idle(self) -> float:
        return max(0.0, self.memory_bytes - self.memory_requested)


@dataclass(slots=True)
class Figures:
    """Of one window."""

    stability: Stability
    speed: Speed
    cost: list[PoolCost]
    refusals: dict[str, int]
