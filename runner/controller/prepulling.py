"""Which images are worth being kept warm on fixed nodes, and what is to be pulled next. Pure; instants are monotonic.

Only what was pulled by a pod without a pull secret counts: what a tenant's secret opened stays that tenant's.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keeping:
    """What may be spent. `images` 0: nothing is pulled ahead."""

    images: int = 0
    """So many, those that save most time."""
    disk_bytes: int = 20 * 2**30
    """Of a node, for all of them."""
    window_seconds: float = 86_400.0
    """Uses count so long."""
    min_uses: int = 3
    hysteresis: float = 1.5
    """Who is not kept must save so many times what one that is kept saves, to take its place."""
    at_once: int = 4
    """Pods that pull, in all of the cluster."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one image: how often it was used lately, how long a pull takes, how large it is."""

    uses: int
    pull_seconds: float
    size_bytes: int

    @property
    def saves_seconds(self) -> float:
        return self.uses * self.pull_seconds


@dataclass(slots=True)
class Usage:
    """What steps use, by canonical names; bounded."""

    limit: int = 1024
    _uses: dict[str, deque[float]] = field(default_factory=dict)
    _pulls: dict[str, tuple[float, int]] = field(default_factory=dict)

    def used(self, image: str, now: float) -> None:
        """By a pod without a pull secret."""
        uses = self._uses.pop(image, None) or deque(maxlen=self.limit)
        uses.append(now)
        self._uses[image] = uses
        if len(self._uses) > self.limit:
            forgotten = next(iter(self._uses))
            del self._uses[forgotten]
            self._pulls.pop(forgotten, None)

    def pulled(self, image: str, seconds: float, size_bytes: int) -> None:
        if image in self._uses:
            self._pulls[image] = seconds, size_bytes

    def worth(self, now: float, window_seconds: float) -> dict[str, Worth]:
        """Of those whose pull was seen: others were there already wherever they were used."""
        found = {}
        for image, (seconds, size) in self._pulls.items():
            uses = self._uses[image]
            while uses and now - uses[0] > window_seconds:
                uses.popleft()
            if uses:
                found[image] = Worth(len(uses), seconds, size)
        return found


def keep_warm(worth: Mapping[str, Worth], kept: Collection[str], rules: Keeping) -> tuple[str, ...]:
    """Those to be kept, the most saving first; `kept` are those that were until now."""

    def value(image: str) -> float:
        return worth[image].saves_seconds * (rules.hysteresis if image in kept else 1.0)

    chosen: list[str] = []
    left = rules.disk_bytes
    for image in sorted(worth, key=lambda image: (-value(image), image)):
        about = worth[image]
        if len(chosen) < rules.images and about.uses >= rules.min_uses and about.size_bytes <= left:
            chosen.append(image)
            left -= about.size_bytes
    return tuple(chosen)


def next_pulls(
    warm: Iterable[str], nodes: Mapping[str, Collection[str]], running: Collection[tuple[str, str]], rules: Keeping
) -> list[tuple[str, str]]:
    """(node, image) to pull now: at most one on a node, the most saving image everywhere before the next.

    `nodes`: the images of each that takes pods. `running`: pulls that go on, or failed lately.
    """
    busy = {node for node, _ in running}
    room = rules.at_once - len(running)
    wanted: list[tuple[str, str]] = []
    for image in warm:
        for node in sorted(nodes):
            if len(wanted) >= room:
                return wanted
            if node not in busy and image not in nodes[node]:
                busy.add(node)
                wanted.append((node, image))
    return wanted
