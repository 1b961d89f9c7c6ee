"""Questions that any instance answers, the leader or not."""

import structlog

from services.scheduler.following import Follower
from services.scheduler.model import RecordSeen
from services.scheduler.state import State
from services.scheduler.why import why
from shared.bus import Bus, Headers, Message
from shared.clock import Clock
from shared.errors import NotFound, Poison
from shared.facts import JobRecord, Order
from shared.flow import DONE, JOBS, ORDERS, Ask, Done, Edge, Job, OrderTo
from shared.requests import DesiredTold, OrdersAsked, OrdersTold, WhyAsked, WhyTold
from shared.wire import decode, encode

log = structlog.get_logger()

ORDERS_LIMIT_BYTES = 900_000
"""Of one answer; the bus takes 1 MiB."""
Answer = tuple[bytes, Headers]


class Desk:
    def __init__(self, bus: Bus, clock: Clock, state: State, follower: Follower) -> None:
        self._bus, self._clock, self._state, self._follower = bus, clock, state, follower

    async def orders(self, message: Message) -> Answer:
        """edge.<cluster>.<machine>.orders: from the stream itself, so that a change of leader does not matter."""
        edge = Edge.parse(message.subject)
        after = decode(OrdersAsked, message.data).after if message.data else None
        found = await self._bus.last_each(ORDERS, OrderTo.filter(cluster=edge.cluster, target=edge.machine))
        told: list[Order] = []
        size = 0
        for stored in sorted(found, key=lambda one: one.subject):
            place = ".".join(stored.subject.split(".")[3:])
            if after is not None and place <= after:
                continue
            size += len(stored.data) + 1
            if size > ORDERS_LIMIT_BYTES:
                return encode(OrdersTold(orders=told, complete=False)), {}
            try:
                told.append(decode(Order, stored.data))
            except Poison as poison:
                log.error("order_ignored", subject=stored.subject, why=str(poison))  # noqa: TRY400 - says it all
        return encode(OrdersTold(orders=told)), {}

    async def desired(self, message: Message) -> Answer:
        """ask.<tenant>.<job>.<epoch>.desired: from the stream itself, as `orders`."""
        about = Ask.parse(message.subject)
        found = await self._bus.last_each(ORDERS, OrderTo.filter(tenant=about.tenant, job=about.job))
        orders = [decode(Order, stored.data) for stored in found]
        newest = max(orders, key=lambda order: (order.epoch, order.term), default=None)
        return encode(DesiredTold(order=newest)), {}

    async def why(self, message: Message) -> Answer:
        """svc.scheduler.why"""
        asked = decode(WhyAsked, message.data)
        key = (asked.tenant, asked.job)
        if key not in self._state.jobs:
            # Created this instant, perhaps: the question may be faster than our tail.
            found = await self._bus.last(JOBS, Job(*key))
            if found is None:
                return encode(await self._long_ended(asked)), {}
            self._follower.hear(RecordSeen(decode(JobRecord, found.data), found.seq))
        return encode(why(self._state, key, self._clock.now())), {}

    async def _long_ended(self, asked: WhyAsked) -> WhyTold:
        found = await self._bus.last(DONE, Done(asked.tenant, asked.job))
        if found is None:
            raise NotFound(what="job", name=asked.job)
        record = decode(JobRecord, found.data)
        code = record.reason.value if record.reason else record.state.value
        return WhyTold(state=record.state.value, code=code, detail=record.message or code.replace("_", " "))
