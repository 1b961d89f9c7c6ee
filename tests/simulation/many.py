"""Many histories, fast."""

import gc
from collections.abc import Iterable, Iterator

from tests.simulation.cores import REAL, Cores
from tests.simulation.world import History, run

COLLECT = 25
"""Histories between two collections: a history is full of cycles, and few of them fill no memory."""


def run_many(seeds: Iterable[int], cores: Cores = REAL) -> Iterator[History]:
    """The histories in which a property broke."""
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            history = run(seed, cores)
            if history.broken is not None:
                yield history
            if number % COLLECT == 0:
                gc.collect()
    finally:
        gc.enable()
