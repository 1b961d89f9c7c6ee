"""List, then watch, for ever: what a collection holds, told as it changes.

Method: the list-watch of client-go's reflector. A bookmark moves the version on while nothing changes; a version too
old means listing again; everything else that breaks the stream is answered by going on from the last version, after a
pause that grows with jitter (full jitter, as in Brooker, "Exponential Backoff and Jitter", 2015).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from shared.clock import Clock
from shared.errors import Unavailable
from shared.kube import Busy, Change, Keep, Kind, KubeApi, Resource, TooOld

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
GOOD_SECONDS = 5.0
"""A stream that lived so long was no failure."""


@dataclass(frozen=True, slots=True)
class Listed:
    """All there is, now: whatever is not among them is gone."""

    items: list[Resource]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to follow. No namespace: all of them."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    keep: Keep | None = None
    """Applied to what is listed, not to changes."""


Told = Listed | Change


class Backoff:
    """Pauses between tries. `spread` is a number in [0, 1), random in life."""

    def __init__(self, spread: Callable[[], float] = random.random) -> None:
        self._spread = spread
        self._failures = 0

    def well(self) -> None:
        self._failures = 0

    def next_seconds(self, at_least_seconds: float = 0.0) -> float:
        ceiling = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self._failures)
        self._failures = min(self._failures + 1, 20)
        return at_least_seconds + ceiling * self._spread()


async def follow(api: KubeApi, what: Selection, clock: Clock, backoff: Backoff | None = None) -> AsyncIterator[Told]:
    """Never ends; outages are waited out. Bookmarks are not told."""
    backoff = backoff or Backoff()
    version: str | None = None
    while True:
        began = clock.monotonic()
        at_least = 0.0
        try:
            if version is None:
                listing = await api.list(
                    what.kind, what.namespace, labels=what.labels, fields=what.fields, keep=what.keep
                )
                version = listing.version
                yield Listed(listing.items)
            changes = api.watch(what.kind, what.namespace, labels=what.labels, fields=what.fields, version=version)
            async with aclosing(changes):  # who stops following leaves no stream open
                async for change in changes:
                    version = change.version
                    if change.type != "BOOKMARK":
                        yield change
        except TooOld:
            log.info("kube_relist", kind=what.kind.kind, version=version)
            version = None
        except Unavailable as error:
            at_least = error.retry_after_seconds if isinstance(error, Busy) else 0.0
            log.info("kube_watch_broke", kind=what.kind.kind, why=str(error)[:300])
        if clock.monotonic() - began >= GOOD_SECONDS:
            backoff.well()
        await asyncio.sleep(backoff.next_seconds(at_least))
