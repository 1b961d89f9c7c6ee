"""The orders that stand for this machine, as far as it was told."""

from collections.abc import Iterable

from runner.agent.model import Key
from runner.agent.policy import supersedes
from shared.bus import Bus
from shared.facts.order import Order
from shared.flow import Edge
from shared.requests import OrdersAsked, OrdersTold
from shared.wire import decode, encode


class OrderBook:
    """Live orders wake, a told list is the truth; what came live after the list was asked for outlives it."""

    def __init__(self) -> None:
        self.complete = False
        self._orders: dict[Key, Order] = {}
        self._came_at: dict[Key, float] = {}

    @property
    def orders(self) -> dict[Key, Order]:
        return self._orders

    def live(self, order: Order, at: float) -> None:
        """`at`: monotonic."""
        key = Key.of(order)
        if supersedes(self._orders.get(key), order):
            self._orders[key] = order
            self._came_at[key] = at

    def told(self, orders: Iterable[Order], asked_at: float) -> None:
        """The truth as of some instant after `asked_at`."""
        fresh = {Key.of(order): order for order in orders}
        for key, order in self._orders.items():
            if self._came_at.get(key, asked_at) > asked_at:
                known = fresh.get(key)
                fresh[key] = order if known is None or supersedes(known, order) else known
        self._orders = fresh
        self._came_at = {key: at for key, at in self._came_at.items() if key in fresh and at > asked_at}
        self.complete = True


async def all_orders(bus: Bus, subject: Edge) -> list[Order]:
    """Every order that stands for this target. Raises Unavailable, Poison."""
    orders: list[Order] = []
    after: str | None = None
    while True:
        answer = await bus.request(subject, encode(OrdersAsked(after=after)))
        told = decode(OrdersTold, answer.data)
        orders += told.orders
        if told.complete or not told.orders:
            return orders
        after = f"{orders[-1].tenant}.{orders[-1].job}"
