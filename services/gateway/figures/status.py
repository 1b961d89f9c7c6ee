"""One look at everything: who answers, what waits, what the figures say. Reads only."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.figures.ledger import Ledger
from services.gateway.figures.model import WINDOWS, Figures, PoolCost, Queue
from services.gateway.figures.tally import NS, Windows
from services.gateway.figures.views import (
    AmountView,
    DeadLettersView,
    FiguresView,
    MachinesView,
    PoolView,
    QueueView,
    ServiceView,
    SpeedView,
    StabilityView,
    StatusView,
)
from services.gateway.figures.wrong import wrong
from services.gateway.presenting import time_of
from services.gateway.projection.reading import Reading
from services.gateway.tenants import Directory
from shared.bus import Bus, Message
from shared.clock import Clock, iso
from shared.errors import OverspillError
from shared.facts import MachineSeen
from shared.flow import DLQ, METRICS, Buried, MachineMetrics, Svc
from shared.health import OP, STORE, HealthTold
from shared.parties import CACHE, CLUSTER_METRICS, LOG_COLLECTOR, SCHEDULER
from shared.principal import Principal, Role
from shared.system_time import START_TARGET_SECONDS
from shared.version import VERSION
from shared.wire import decode

ANSWER_SECONDS = 3.0
FRESH_SECONDS = 5.0
FRESH_TIMES = 20
"""Figures are folded anew at most so often, and seldom where it takes long, however many look."""
DAY_NS = 86_400 * NS
ASKED = {
    "scheduler": Svc(SCHEDULER.name, OP),
    "log-collector": Svc(LOG_COLLECTOR.name, OP),
    "cache": Svc(CACHE.name, OP),
    "cluster-metrics": Svc(CLUSTER_METRICS.name, OP),
    "object-store": Svc(CACHE.name, STORE),
}


@dataclass(frozen=True, slots=True)
class Folded:
    fresh_until: float
    """Of the monotonic clock."""
    queue: Queue
    figures: dict[str, Figures]


class Status:
    def __init__(self, bus: Bus, reading: Reading, directory: Directory, ledger: Ledger, clock: Clock) -> None:
        self._bus, self._reading, self._directory = bus, reading, directory
        self._ledger, self._clock = ledger, clock
        self._since = clock.now()
        self._folded: dict[str | None, Folded] = {}
        self._folding = asyncio.Lock()

    async def of(self, caller: Principal, missing: Sequence[str]) -> StatusView:
        """A tenant sees its own, an operator everything. `missing`: what this gateway waits for. Never raises for a
        part that is away: that is what it tells.
        """
        operator = caller.may(Role.OPERATOR)
        services, machines, letters, folded = await asyncio.gather(
            asyncio.gather(*(self._ask(name, subject) for name, subject in ASKED.items())),
            self._machines(caller),
            self._letters(),
            self._fold(None if operator else caller.tenant),
        )
        now = self._clock.now()
        oldest = folded.queue.oldest_ns
        queue = QueueView(
            waiting=folded.queue.waiting,
            oldest_wait_seconds=None if oldest is None else max(0.0, now - oldest / NS),
            running=folded.queue.running,
        )
        figures = {name: _figures(one, operator=operator) for name, one in folded.figures.items()}
        lately = _since(letters, int(now * NS) - DAY_NS)
        asked = services if self._bus.connected else ()
        lines = list(wrong(missing, asked, machines, queue, lately if operator else None, figures["hour"]))
        return StatusView(
            healthy=not lines,
            wrong=lines,
            scope="platform" if operator else "tenant",
            tenant=caller.tenant,
            at=iso(now),
            services=[self._gateway(missing), ServiceView(service="bus", answers=self._bus.connected), *services],
            machines=machines,
            queue=queue,
            dead_letters=_letters_view(letters) if operator else None,
            figures=figures,
        )

    async def _ask(self, service: str, subject: Svc) -> ServiceView:
        try:
            reply = await self._bus.request(subject, timeout_seconds=ANSWER_SECONDS)
            told = decode(HealthTold, reply.data)
        except OverspillError:
            return ServiceView(service=service, answers=False)
        return ServiceView(
            service=service,
            answers=True,
            version=told.version,
            since=time_of(int(told.since_unix * NS)),
            complaints=told.complaints,
        )

    def _gateway(self, missing: Sequence[str]) -> ServiceView:
        return ServiceView(
            service="gateway",
            answers=True,
            version=VERSION,
            since=time_of(int(self._since * NS)),
            complaints=[line for line in missing if not line.startswith("the bus")],
        )

    async def _machines(self, caller: Principal) -> MachinesView | None:
        records = {record.cluster: record for record in self._directory.clusters.values()}
        try:
            seen = [
                decode(MachineSeen, one.data) for one in await self._bus.last_each(METRICS, MachineMetrics.filter())
            ]
        except OverspillError:
            return None
        visible = [
            machine
            for machine in seen
            if caller.may(Role.OPERATOR)
            or ((record := records.get(machine.cluster)) is not None and record.serves(caller.tenant))
        ]
        states = [machine.state for machine in visible]
        lost = sorted(f"{machine.cluster}/{machine.machine}" for machine in visible if machine.state == "lost")
        return MachinesView(ready=states.count("ready"), draining=states.count("draining"), lost=lost)

    async def _letters(self) -> tuple[int, list[Message]]:
        """(how many are kept, the newest of each service)"""
        try:
            first, end = await self._bus.first_seq(DLQ), await self._bus.end_seq(DLQ)
            return max(0, end - first + 1) if end else 0, await self._bus.last_each(DLQ, Buried.filter())
        except OverspillError:
            return 0, []

    async def _fold(self, tenant: str | None) -> Folded:
        """`tenant` None: of all."""
        async with self._folding:
            known, began = self._folded.get(tenant), self._clock.monotonic()
            if known is not None and began < known.fresh_until:
                return known
            windows = Windows(WINDOWS, int(self._clock.now() * NS))
            for at_ns, cluster, pool in self._ledger.capacity(windows.since_ns) if tenant is None else ():
                windows.capacity(at_ns, cluster, pool)
            tenants = [tenant] if tenant is not None else [one.tenant for one in self._directory.tenants.values()]
            queue = await self._reading.measure(tenants, windows)
            figures = windows.figures(lambda since_ns: self._ledger.refusals(since_ns, tenant))
            ended = self._clock.monotonic()
            fresh_until = ended + max(FRESH_SECONDS, FRESH_TIMES * (ended - began))
            folded = self._folded[tenant] = Folded(fresh_until, queue, figures)
            return folded


def _since(letters: tuple[int, list[Message]], since_ns: int) -> DeadLettersView:
    return _letters_view((0, [one for one in letters[1] if one.time_unix_ns >= since_ns]))


def _letters_view(letters: tuple[int, list[Message]]) -> DeadLettersView:
    count, newest = letters
    return DeadLettersView(
        count=count,
        newest={Buried.parse(one.subject).service: time_of(one.time_unix_ns) or iso(0) for one in newest},
    )


def _figures(figures: Figures, *, operator: bool) -> FiguresView:
    told, speed = figures.stability, figures.speed
    return FiguresView(
        stability=StabilityView(
            accepted=told.accepted,
            started_in_time=told.started_in_time,
            started_late=told.started_late,
            succeeded=told.succeeded,
            failed=told.failed,
            cancelled=told.cancelled,
            timed_out=told.timed_out,
            our_errors=told.our_errors,
            retried_attempts=told.retried_attempts,
            start_target_seconds=START_TARGET_SECONDS,
            share=told.share,
        ),
        speed=SpeedView(
            jobs=speed.jobs,
            p50_seconds=speed.p50_seconds,
            p99_seconds=speed.p99_seconds,
            mean_seconds_by_part=speed.parts,
        ),
        cost=[_pool(pool, operator=operator) for pool in figures.cost],
        refusals=figures.refusals,
    )


def _pool(pool: PoolCost, *, operator: bool) -> PoolView:
    def amount(there: float, requested: float, idle: float) -> AmountView:
        return AmountView(allocatable=there if operator else None, requested=requested, idle=idle if operator else None)

    return PoolView(
        cluster=pool.cluster,
        pool=pool.pool,
        core_seconds=amount(pool.cores, pool.cores_requested, pool.cores_idle),
        memory_byte_seconds=amount(pool.memory_bytes, pool.memory_requested, pool.memory_idle),
    )
