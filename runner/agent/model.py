"""What the agent knows and decides, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runner.protocol.words import CancelWord
from shared.facts.order import Order
from shared.needs import Capacity, Needs


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names an attempt."""

    tenant: str
    job: str
    epoch: int

    @classmethod
    def of(cls, order: Order) -> "Key":
        return cls(order.tenant, order.job, order.epoch)

    @property
    def name(self) -> str:
        """Of its directory: short, since unix sockets below TMPDIR have 108 bytes for their whole path."""
        return f"{self.job}-{self.epoch}"


Phase = Literal["claiming", "running", "finishing"]
"""`finishing`: nothing of it runs any more, but it is not all told."""


@dataclass(frozen=True, slots=True)
class Local:
    """An attempt that is here."""

    key: Key
    needs: Needs
    phase: Phase
    ending: bool = False
    """A `cancel` word is written."""
    held: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made from."""

    orders: Mapping[Key, Order]
    complete: bool
    """`orders` holds all that stand: the hub has told them since this agent began."""
    locals: tuple[Local, ...]
    settled: frozenset[Key]
    """Answered before, or someone else's."""
    capacity: Capacity
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    order: Order


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell that this attempt can't be here."""

    order: Order
    why: str


@dataclass(frozen=True, slots=True)
class Decline:
    """It was to be ended before it began: tell that it is over."""

    order: Order


@dataclass(frozen=True, slots=True)
class End:
    key: Key
    word: CancelWord


@dataclass(frozen=True, slots=True)
class Hold:
    key: Key


@dataclass(frozen=True, slots=True)
class Release:
    key: Key


Effect = Claim | Refuse | Decline | End | Hold | Release
