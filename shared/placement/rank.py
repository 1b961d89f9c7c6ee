"""Which of the machines that fit is best."""

from dataclasses import dataclass

from shared.placement.model import Amount, Machine
from shared.tenancy import PoolKind


@dataclass(frozen=True, slots=True)
class Traits:
    """What the kind of a pool means for placement."""

    preference: int
    """Lower goes first: what is paid for anyway before what is paid by use."""


TRAITS: dict[PoolKind, Traits] = {
    "fixed": Traits(preference=0),
    "agents": Traits(preference=0),
    "serverless": Traits(preference=1),
}

Rank = tuple[int, int, float, str, str]


def rank(needs: Amount, machine: Machine, free: Amount, images: frozenset[str] = frozenset()) -> Rank:
    """Smallest is best: owned before serverless, then fewest `images` to pull, then best fit on requests (least left
    over of CPU and memory, as shares of the machine), then names.
    """
    whole = machine.allocatable
    left = (free.cpu_millis - needs.cpu_millis) / max(1, whole.cpu_millis) + (
        free.memory_bytes - needs.memory_bytes
    ) / max(1, whole.memory_bytes)
    missing = len(images - machine.images) if images else 0
    return TRAITS[machine.kind].preference, missing, round(left, 6), machine.target.cluster, machine.target.machine
