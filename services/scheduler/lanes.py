"""Who waits: one lane for each want of each tenant, so that jobs that could run in the same places are asked once."""

import heapq
from collections.abc import Iterator

from services.scheduler.model import Key
from shared.placement import Want, Why

Place = tuple[int, int, str]
"""A job's order within its tenant: (-priority, created, job)."""


class _Lane:
    """A heap with lazy removal."""

    __slots__ = ("heap", "members")

    def __init__(self) -> None:
        self.heap: list[Place] = []
        self.members: dict[str, Place] = {}

    def head(self) -> Place:
        while self.members.get(self.heap[0][2]) != self.heap[0]:
            heapq.heappop(self.heap)
        return self.heap[0]


class Lanes:
    """A lane is shut, with the reason, when its want fits nowhere; whatever may change that opens all again."""

    def __init__(self) -> None:
        self._lanes: dict[Want, _Lane] = {}
        self._of: dict[Key, Want] = {}
        self._open: dict[str, set[Want]] = {}
        self._shut: dict[Want, Why] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, key: Key) -> bool:
        return key in self._of

    def add(self, want: Want, place: Place) -> None:
        """No effect when it waits there already."""
        key = (want.tenant, place[2])
        if self._of.get(key) == want:
            return
        self.remove(key)
        lane = self._lanes.get(want)
        if lane is None:
            lane = self._lanes[want] = _Lane()
            self._open.setdefault(want.tenant, set()).add(want)
        lane.members[place[2]] = place
        heapq.heappush(lane.heap, place)
        self._of[key] = want

    def has(self, want: Want) -> bool:
        return want in self._lanes

    def remove(self, key: Key) -> None:
        want = self._of.pop(key, None)
        if want is None:
            return
        lane = self._lanes[want]
        del lane.members[key[1]]
        if lane.members:
            return
        del self._lanes[want]
        self._shut.pop(want, None)
        waiting = self._open.get(want.tenant)
        if waiting is not None:
            waiting.discard(want)
            if not waiting:
                del self._open[want.tenant]

    def tenants(self) -> list[str]:
        """With an open lane."""
        return sorted(self._open)

    def first(self, tenant: str) -> tuple[Place, Want] | None:
        """The tenant's first job in an open lane."""
        best: tuple[Place, Want] | None = None
        for want in self._open.get(tenant, ()):
            head = self._lanes[want].head()
            if best is None or head < best[0]:
                best = head, want
        return best

    def shut(self, want: Want, why: Why) -> None:
        self._shut[want] = why
        waiting = self._open[want.tenant]
        waiting.discard(want)
        if not waiting:
            del self._open[want.tenant]

    def reopen(self) -> None:
        for want in self._shut:
            self._open.setdefault(want.tenant, set()).add(want)
        self._shut.clear()

    def why(self, key: Key) -> Why | None:
        """Why its lane is shut; None when it is open or the job isn't here."""
        want = self._of.get(key)
        return None if want is None else self._shut.get(want)

    def shut_heads(self) -> Iterator[tuple[Place, Want, Why]]:
        """The first job of every shut lane, in order of (place, tenant)."""
        heads = [(self._lanes[want].head(), want, why) for want, why in self._shut.items()]
        return iter(sorted(heads, key=lambda head: (head[0], head[1].tenant)))

    def keys(self) -> list[Key]:
        return list(self._of)
