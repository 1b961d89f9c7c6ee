"""What a controller remembers of orders and pods. Hub and API server can tell it all anew."""

from dataclasses import dataclass, field

from runner.agent.model import Key
from runner.agent.orders import OrderBook
from runner.controller.model import PodSeen
from runner.controller.policy import MARKS, Mark, Rules, View, marks
from shared.facts.order import Desired


@dataclass(slots=True)
class Known:
    book: OrderBook = field(default_factory=OrderBook)
    pods: dict[Key, PodSeen] = field(default_factory=dict)
    listed: bool = False
    wants: dict[Key, tuple[Desired | None, float]] = field(default_factory=dict)
    marked_at: dict[tuple[Key, Mark], float] = field(default_factory=dict)
    claiming: set[Key] = field(default_factory=set)
    claimed: set[Key] = field(default_factory=set)
    missing_at: dict[Key, float] = field(default_factory=dict)
    telling: set[Key] = field(default_factory=set)
    told: set[Key] = field(default_factory=set)

    def see(self, pod: PodSeen, now: float) -> None:
        self.pods[pod.key] = pod
        self.claimed.add(pod.key)
        self.missing_at.pop(pod.key, None)
        seen = set(marks(pod))
        for mark in MARKS:
            if mark in seen:
                self.marked_at.setdefault((pod.key, mark), now)
            else:
                self.marked_at.pop((pod.key, mark), None)

    def lose(self, key: Key) -> None:
        if self.pods.pop(key, None) is not None:
            for mark in MARKS:
                self.marked_at.pop((key, mark), None)

    def refresh(self, now: float) -> None:
        """Bring what hangs on orders and pods into line with them."""
        orders = self.book.orders
        for key in self.wants.keys() | orders.keys() | self.pods.keys():
            order = orders.get(key)
            desired = None if order is None else order.desired
            if key not in self.wants or self.wants[key][0] != desired:
                self.wants[key] = (desired, now)
        live = orders.keys() | self.pods.keys() | self.claiming
        for key in self.claimed & orders.keys() - self.pods.keys() - self.claiming:
            self.missing_at.setdefault(key, now)
        if self.book.complete and self.listed:
            self.claimed &= live
            self.told &= live
            self.wants = {key: wanted for key, wanted in self.wants.items() if key in live}
            self.missing_at = {key: at for key, at in self.missing_at.items() if key in live}

    def view(self, rules: Rules, grace_seconds: float, now: float) -> View:
        return View(
            orders=self.book.orders,
            complete=self.book.complete,
            pods=self.pods,
            listed=self.listed,
            claiming=frozenset(self.claiming),
            claimed=frozenset(self.claimed),
            told=frozenset(self.told),
            telling=frozenset(self.telling),
            ordered_at={key: at for key, (_, at) in self.wants.items()},
            missing_at=self.missing_at,
            marked_at=self.marked_at,
            grace_seconds=grace_seconds,
            now=now,
            rules=rules,
        )
