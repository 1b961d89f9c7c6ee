"""What tenants use and used, and whose turn that makes it.

Dominant resource fairness (Ghodsi et al. 2011) over weights, on what a tenant runs now plus an exponentially decayed
average of what it ran: who just had much waits behind who had little, and is forgiven with the half-life.
"""

from dataclasses import dataclass, field

from shared.placement import Amount

NOTHING = Amount(0, 0, 0)


@dataclass(slots=True)
class Usage:
    """`average` is as of `at`: since then it has been approaching `running`."""

    running: Amount = NOTHING
    average: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    at: float = 0.0

    def _advance(self, now: float, half_life_seconds: float) -> None:
        if now <= self.at:
            return
        kept = 0.5 ** ((now - self.at) / half_life_seconds)
        self.average = [
            float(current) + (before - current) * kept
            for before, current in zip(self.average, self.running, strict=True)
        ]
        self.at = now

    def start(self, needs: Amount, now: float, half_life_seconds: float) -> None:
        self._advance(now, half_life_seconds)
        self.running = self.running.plus(needs)

    def stop(self, needs: Amount, now: float, half_life_seconds: float) -> None:
        self._advance(now, half_life_seconds)
        self.running = self.running.minus(needs)

    def remember(self, needs: Amount, start: float, end: float, now: float, half_life_seconds: float) -> None:
        """Fold in a run from `start` to `end` that we did not witness."""
        self._advance(now, half_life_seconds)
        if end <= start:
            return
        part = 0.5 ** (max(0.0, now - end) / half_life_seconds) - 0.5 ** (max(0.0, now - start) / half_life_seconds)
        self.average = [before + need * part for before, need in zip(self.average, needs, strict=True)]

    def share(self, total: Amount, weight: float, now: float, half_life_seconds: float) -> float:
        """The dominant share over the weight. Smallest goes first."""
        self._advance(now, half_life_seconds)
        return (
            max(
                (current + before) / whole if whole > 0 else 0.0
                for current, before, whole in zip(self.running, self.average, total, strict=True)
            )
            / weight
        )
