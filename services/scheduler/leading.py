"""What only the leader does: decide, and have the effects performed while the lease lasts."""

import asyncio
import contextlib

import structlog

from services.scheduler.cordons import Cordons
from services.scheduler.following import Follower
from services.scheduler.forgetting import Forgetter
from services.scheduler.lease import Lease, LeaseLost
from services.scheduler.levels import levels, silence
from services.scheduler.model import Effect, Landed, Resumed
from services.scheduler.performing import Performer
from services.scheduler.policy import decide, wake_at
from services.scheduler.settings import Settings
from services.scheduler.state import Fact, State
from services.scheduler.takeover import take_over
from shared.bus import Bus
from shared.cancelling import apart, heed_cancel
from shared.clock import Clock
from shared.crash_points import crash_point
from shared.errors import OverspillError, Poison, Unavailable
from shared.facts import Order
from shared.flow import JOBS, ORDERS, Job, OrderTo, Svc
from shared.run import first_error
from shared.telemetry import level, measuring, system_error
from shared.wire import decode

log = structlog.get_logger()

LEVELS_SECONDS = 5.0
CANDIDACIES = 5
"""In one lease's time."""


class BusCameBack(OverspillError):
    """The connection was away: what we take for purged may stand again."""

    code = "bus_came_back"


class Leader:
    """Stands for the lease for ever; leads while it has it."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        clock: Clock,
        state: State,
        follower: Follower,
        lease: Lease,
        changed: asyncio.Event,
    ) -> None:
        self._settings, self._bus, self._clock = settings, bus, clock
        self._state, self._follower, self._lease = state, follower, lease
        self._changed = changed
        self._todo: asyncio.Queue[Effect] = asyncio.Queue()
        self._came_back = asyncio.Event()
        bus.on_reconnect(self._came_back.set)

    async def stand(self, leading: asyncio.Event) -> None:
        """Until cancelled. `leading` is set while this instance leads."""
        while True:
            term = await self._acquire()
            if term is None:
                await asyncio.sleep(self._settings.lease_seconds / CANDIDACIES)
                continue
            try:
                await apart(self._lead(term, leading))
            except* LeaseLost:
                log.warning("lease_lost", term=term)
            except* Unavailable as errors:
                log.warning("leading_broke_off", why=str(first_error(errors)))
                system_error("leading_broke_off")
            finally:
                leading.clear()
                self._state.abandon()
                await self._lease.release()
            heed_cancel()

    async def _acquire(self) -> int | None:
        try:
            return await self._lease.acquire(self._state.highest_term)
        except Unavailable as error:
            log.info("no_lease", why=str(error))
            return None

    async def _lead(self, term: int, leading: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep())
            tasks.create_task(self._work(term, leading))

    async def _work(self, term: int, leading: asyncio.Event) -> None:
        while True:
            self._came_back.clear()
            crash_point("scheduler.after-lease-before-takeover")
            await self._take_over(term)
            crash_point("scheduler.after-takeover-before-deciding")
            leading.set()
            self._todo = asyncio.Queue()
            try:
                await apart(self._decide_and_perform(term))
            except* BusCameBack:
                self._state.abandon()
            heed_cancel()

    async def _decide_and_perform(self, term: int) -> None:
        settings = self._settings
        forgetter = Forgetter(
            self._bus,
            self._clock,
            self._state,
            self._follower.hear,
            settings.forget_every_seconds,
            settings.forget_at_once,
        )
        cordons = Cordons(self._state, self._follower, self._lease.holds)
        async with (
            self._bus.serve(str(Svc("scheduler", "cordoned")), cordons.answer),
            asyncio.TaskGroup() as tasks,
        ):
            performer = Performer(self._bus, term)
            for _ in range(settings.workers):
                tasks.create_task(self._perform(performer))
            tasks.create_task(self._decide())
            tasks.create_task(self._until_it_came_back())
            tasks.create_task(forgetter.run())
            if measuring():
                tasks.create_task(self._tell_levels())

    async def _until_it_came_back(self) -> None:
        """A server that was killed may have forgotten the last purges it confirmed: ORDERS is looked at anew."""
        await self._came_back.wait()
        raise BusCameBack

    async def _tell_levels(self) -> None:
        try:
            while True:
                for gauge, values in levels(self._state, self._clock.now()).items():
                    level(gauge, values)
                await asyncio.sleep(LEVELS_SECONDS)
        finally:
            for gauge, values in silence().items():
                level(gauge, values)

    async def _take_over(self, term: int) -> None:
        """Bring the state to the streams' ends, then see what the leader before us left undone."""
        await self._follower.load_clusters()
        await self._follower.catch_up()
        orders = []
        for message in await self._bus.last_each(ORDERS, OrderTo.filter()):
            try:
                orders.append((decode(Order, message.data), message.seq))
            except Poison as poison:
                log.error("order_ignored", subject=message.subject, why=str(poison))  # noqa: TRY400 - says it all
        now = self._clock.now()
        self._state.apply(Resumed(), now)
        orphans = take_over(self._state, orders, now)
        for order in orphans:
            await self._purge_orphan(order)
        log.info("leading", term=term, jobs=len(self._state.jobs), orders=len(orders), orphans=len(orphans))

    async def _purge_orphan(self, order: Order) -> None:
        """Unless its job came since we looked: whoever leads by now may have given the order. Raises LeaseLost."""
        if await self._bus.last(JOBS, Job(order.tenant, order.job)) is not None:
            return  # we hear of it, and find the order where we would give it
        if not self._lease.holds():
            raise LeaseLost(name="scheduler")
        await self._bus.purge(ORDERS, str(OrderTo(order.cluster, order.target, order.tenant, order.job)))

    async def _decide(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock.now()
            if not self._lease.holds():
                raise LeaseLost(name="scheduler")
            for effect in decide(self._state, now):
                self._todo.put_nowait(effect)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(wake_at(self._state) - now, self._settings.lease_seconds))):
                    await self._changed.wait()

    async def _perform(self, performer: Performer) -> None:
        while True:
            effect = await self._todo.get()
            if not self._lease.holds():
                raise LeaseLost(name="scheduler")
            for fact in await self._facts_of(performer, effect):
                self._follower.hear(fact)

    async def _facts_of(self, performer: Performer, effect: Effect) -> list[Fact]:
        try:
            return [*await performer.perform(effect), Landed(effect.key)]
        except OverspillError as error:
            log.warning(
                "effect_put_off", effect=type(effect).__name__, tenant=effect.key[0], job=effect.key[1], why=str(error)
            )
            system_error(error.code)
            return [Landed(effect.key, failed=True)]
