"""What there was to give, summed up over time. Pure; `now` is monotonic seconds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.cluster_metrics.model import Machine, State
from shared.facts import CapacityCounted
from shared.facts.figures import PoolCapacity
from shared.metrics import Levels
from shared.pods import KUBE

UNWATCHED_SECONDS = 5.0
"""A longer pause between two looks was not watched, and is not counted."""
Where = tuple[str, str]
"""(cluster, pool)"""


@dataclass(frozen=True, slots=True)
class Amount:
    """Of capacity now, or of capacity times seconds."""

    cores: float = 0.0
    memory_bytes: float = 0.0

    def plus(self, other: "Amount", times: float = 1.0) -> "Amount":
        return Amount(self.cores + other.cores * times, self.memory_bytes + other.memory_bytes * times)


@dataclass(slots=True)
class Tally:
    looked_at: float | None = None
    since_unix_ns: int | None = None
    sums: dict[Where, Amount] = field(default_factory=dict)


def capacity(state: State) -> dict[Where, Amount]:
    """Of the machines that are ready. What may be had of serverless pools is no capacity: nobody pays for it."""
    millis: dict[Where, int] = {}
    memory: dict[Where, int] = {}
    serverless = {
        (name, pool.pool)
        for name, cluster in state.clusters.items()
        for pool in (cluster.record.pools if cluster.record is not None else ())
        if pool.kind == "serverless"
    }
    for machine in state.machines.values():
        where = machine.cluster, machine.picture.pool
        if machine.picture.state == "ready" and machine.machine != KUBE and where not in serverless:
            has = machine.picture.allocatable
            millis[where] = millis.get(where, 0) + has.cpu_millis
            memory[where] = memory.get(where, 0) + has.memory_bytes
    return {where: Amount(millis[where] / 1000, memory[where]) for where in millis}


def look(tally: Tally, there: Mapping[Where, Amount], now: float) -> dict[Where, Amount]:
    """Count the time since the last look; what was added."""
    passed = 0.0 if tally.looked_at is None else now - tally.looked_at
    tally.looked_at = now
    if not 0 < passed <= UNWATCHED_SECONDS:
        return {}
    added = {where: Amount().plus(amount, passed) for where, amount in there.items()}
    for where, amount in added.items():
        tally.sums[where] = tally.sums.get(where, Amount()).plus(amount)
    return added


def due(tally: Tally, unix_ns: int, every_seconds: int) -> Iterator[CapacityCounted]:
    """A fact for each cluster once a stretch of the wall clock is over: instances beside us count the same one."""
    begin = tally.since_unix_ns
    if begin is None or unix_ns < begin:
        tally.since_unix_ns = unix_ns
        return
    if stretch(begin, every_seconds) == stretch(unix_ns, every_seconds):
        return
    sums, tally.sums, tally.since_unix_ns = tally.sums, {}, unix_ns
    for cluster in sorted({where[0] for where in sums}):
        yield CapacityCounted(
            since_unix_ns=begin,
            until_unix_ns=unix_ns,
            cluster=cluster,
            pools=[
                PoolCapacity(pool=pool, core_seconds=amount.cores, memory_byte_seconds=amount.memory_bytes)
                for (of, pool), amount in sorted(sums.items())
                if of == cluster
            ],
        )


def stretch(unix_ns: int, every_seconds: int) -> int:
    """Its number."""
    return unix_ns // (every_seconds * 1_000_000_000)


def _word(machine: Machine) -> str:
    match machine.picture.state:
        case "ready":
            return "busy" if machine.attempts else "available"
        case "draining":
            return "draining"  # takes nothing new: neither of the conventions' own
        case _:
            return "offline"


def workers(state: State) -> Levels:
    """Machines by (cluster, pool, state) in the words of OpenTelemetry's conventions."""
    found: dict[tuple[str, ...], float] = {}
    for machine in state.machines.values():
        if machine.picture.state == "gone" or machine.machine == KUBE:
            continue
        where = (machine.cluster, machine.picture.pool, _word(machine))
        found[where] = found.get(where, 0) + 1
    return found


def pods(state: State) -> Levels:
    """By (cluster, pool, phase)."""
    return {
        (name, figures.pool, phase): count
        for name, cluster in state.clusters.items()
        for figures in cluster.pods.values()
        for phase, count in figures.phases.items()
    }


def pending_pods(state: State) -> Levels:
    """By (cluster, pool, reason)."""
    return {
        (name, figures.pool, reason): count
        for name, cluster in state.clusters.items()
        for figures in cluster.pods.values()
        for reason, count in figures.pending.items()
    }
