"""What a new leader finds undone. Pure."""

from collections.abc import Iterable

from services.scheduler.model import OrderStands
from services.scheduler.state import State
from shared.facts import Order


def take_over(state: State, orders: Iterable[tuple[Order, int]], now: float) -> list[Order]:
    """Put ORDERS as it stands into the state; returns the orders of jobs that are no more.

    A job that was ever placed keeps an order until DONE holds it, so an ended one without any is done. Of one that
    never was placed nothing tells, so DONE is written again, which changes nothing.
    """
    for job in state.jobs.values():
        job.orders.clear()
    orphans: list[Order] = []
    for order, seq in orders:
        if (order.tenant, order.job) in state.jobs:
            state.apply(OrderStands(order, seq), now)
        else:
            orphans.append(order)
    for job in state.jobs.values():
        job.done = job.record.ended and job.record.epoch >= 1 and not job.orders
    state.abandon()
    return orphans
