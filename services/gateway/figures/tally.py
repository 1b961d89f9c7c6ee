"""From rows and counts to the four figures of a window. Pure; one pass, and memory for a number a job."""

from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise

from services.gateway.figures.model import AttemptSpan, Figures, JobRow, PoolCost, Speed, Stability
from shared.facts.figures import PoolCapacity
from shared.system_time import START_TARGET_SECONDS, SystemTime, seconds_between, system_time

NS = 1_000_000_000


class Windows:
    """Several windows that end now, in one pass: a row is counted in the shortest it belongs to, and then in every
    longer one at once.
    """

    def __init__(self, seconds: Mapping[str, int], now_ns: int) -> None:
        self._tallies = {
            name: Tally(now_ns - length * NS, now_ns)
            for name, length in sorted(seconds.items(), key=lambda item: item[1])
        }
        self._each = tuple(self._tallies.values())

    @property
    def since_ns(self) -> int:
        return self._each[-1].since_ns

    def job(self, row: JobRow) -> None:
        for tally in self._each:
            if row.created_ns >= tally.since_ns:
                tally.job(row)
                return

    def attempt(self, span: AttemptSpan) -> None:
        for tally in self._each:
            tally.attempt(span)

    def capacity(self, at_ns: int, cluster: str, pool: PoolCapacity) -> None:
        for tally in self._each:
            if at_ns >= tally.since_ns:
                tally.capacity(cluster, pool.pool, pool.core_seconds, pool.memory_byte_seconds)

    def figures(self, refusals: Callable[[int], Mapping[str, int]]) -> dict[str, Figures]:
        """`refusals` since an instant. Call it once, when all is counted."""
        for shorter, longer in pairwise(self._each):
            longer.include_jobs(shorter)
        return {name: tally.figures(refusals(tally.since_ns)) for name, tally in self._tallies.items()}


class Tally:
    """Of the jobs accepted in one window, and of what attempts reserved within it."""

    def __init__(self, since_ns: int, now_ns: int) -> None:
        self.since_ns, self._now_ns = since_ns, now_ns
        self._stability = Stability()
        self._totals = array("d")
        self._parts: dict[str, float] = {}
        self._pools: dict[tuple[str, str], PoolCost] = {}

    def job(self, row: JobRow) -> None:
        self._count(row)
        times = _times(row)
        if times is not None:
            self._totals.append(times.total)
            for part, seconds in times.parts().items():
                self._parts[part] = self._parts.get(part, 0.0) + seconds

    def include_jobs(self, other: "Tally") -> None:
        self._stability = self._stability.plus(other._stability)  # noqa: SLF001 - of its own kind
        self._totals.extend(other._totals)  # noqa: SLF001
        for part, seconds in other._parts.items():  # noqa: SLF001
            self._parts[part] = self._parts.get(part, 0.0) + seconds

    def _count(self, row: JobRow) -> None:
        told = self._stability
        told.accepted += 1
        told.retried_attempts += max(0, row.epoch - 1)
        waited = (
            seconds_between(row.created_ns, row.first_accepted_ns or row.ended_ns or max(self._now_ns, row.created_ns))
            or 0.0
        )
        if waited > START_TARGET_SECONDS:
            told.started_late += 1
        elif row.first_accepted_ns is not None:
            told.started_in_time += 1
        match row.state:
            case "succeeded":
                told.succeeded += 1
            case "failed":
                told.failed += 1
            case "cancelled":
                told.cancelled += 1
            case "timed_out":
                told.timed_out += 1
            case "error":
                told.our_errors += 1

    def attempt(self, span: AttemptSpan) -> None:
        begin = max(span.begin_ns, self.since_ns)
        end = min(span.end_ns if span.end_ns is not None else self._now_ns, self._now_ns)
        if end <= begin:
            return
        seconds = (end - begin) / NS
        pool = self._pool(span.cluster, span.pool)
        pool.cores_requested += seconds * span.cores
        pool.memory_requested += seconds * span.memory_bytes

    def capacity(self, cluster: str, pool: str, core_seconds: float, memory_byte_seconds: float) -> None:
        there = self._pool(cluster, pool)
        there.cores += core_seconds
        there.memory_bytes += memory_byte_seconds

    def _pool(self, cluster: str, pool: str) -> PoolCost:
        return self._pools.setdefault((cluster, pool), PoolCost(cluster, pool))

    def figures(self, refusals: Mapping[str, int]) -> Figures:
        jobs, totals = len(self._totals), sorted(self._totals)
        speed = Speed(
            jobs,
            quantile(totals, 0.5),
            quantile(totals, 0.99),
            {part: seconds / jobs for part, seconds in self._parts.items()},
        )
        return Figures(
            self._stability,
            speed,
            [pool for _, pool in sorted(self._pools.items())],
            dict(sorted(refusals.items(), key=lambda item: (-item[1], item[0]))),
        )


def quantile(ascending: list[float], share: float) -> float | None:
    """The smallest value that so large a share does not exceed (nearest rank)."""
    if not ascending:
        return None
    rank = -int(-share * len(ascending) // 1)
    return ascending[min(max(rank, 1), len(ascending)) - 1]


def _times(row: JobRow) -> SystemTime | None:
    """None while it is not over, and when it ended without an attempt that told where its time went."""
    if row.ended_ns is None or row.placed_ns is None or row.accepted_ns is None or row.prepare_seconds is None:
        return None
    return system_time(
        created_unix_ns=row.created_ns,
        placed_unix_ns=row.placed_ns,
        accepted_unix_ns=row.accepted_ns,
        prepare_seconds=row.prepare_seconds,
        handover_seconds=row.handover_seconds or 0.0,
        finish_seconds=row.finish_seconds or 0.0,
        attempt_ended_unix_ns=row.attempt_ended_ns,
        ended_unix_ns=row.ended_ns,
    )
