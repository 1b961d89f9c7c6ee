"""What an order of the hub asks of an attempt that hears it itself. Pure."""

from dataclasses import dataclass
from typing import Literal

from shared.facts.order import Desired, Order

Wish = Literal["cancel", "timeout", "stale", "hold", "run"]


@dataclass(frozen=True, slots=True)
class Known:
    """What was heard so far."""

    epoch: int
    """Ours."""
    term: int = 0
    """Of the newest order for us: an older leader's changes nothing."""


def heard(known: Known, order: Order) -> tuple[Known, Wish | None]:
    """Of an order that came live; None: it asks nothing of us."""
    if order.epoch > known.epoch:
        return known, "stale"
    if order.epoch < known.epoch or order.term < known.term:
        return known, None
    return Known(known.epoch, order.term), _wish(order)


def told(known: Known, newest: Order | None) -> tuple[Known, Wish | None]:
    """Of the truth: the newest order of the job as the hub has it, None when it has none. One for an earlier attempt
    says as little of ours as none: ours was revoked.
    """
    if newest is None or newest.epoch < known.epoch:
        return known, "stale"
    return heard(known, newest)


def _wish(order: Order) -> Wish:
    match order.desired:
        case Desired.CANCEL:
            return "cancel"
        case Desired.TIMEOUT:
            return "timeout"
        case Desired.HOLD:
            return "hold"
        case Desired.RUN:
            return "run"
