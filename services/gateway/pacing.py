"""The bus door's rate: a tenant's submissions beyond it wait in the stream, those of others pass them. Pure."""

from dataclasses import dataclass, field

LAPSE_SECONDS = 60.0


@dataclass(slots=True)
class _Lane:
    free_at_seconds: float = 0.0
    """When the next one may come in, if the burst is used up (generic cell rate algorithm, ITU-T I.371)."""
    booked: dict[int, float] = field(default_factory=dict)
    """Turn by stream sequence, of those that were sent away."""


class Pacing:
    """Bounded by the tenants there are and what the stream keeps of each."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def wait(self, tenant: str, seq: int, per_second: float, burst: int, now_seconds: float) -> float:
        """Seconds until it's the turn of the submission at `seq`; 0 when it is now."""
        lane = self._lanes.setdefault(tenant, _Lane())
        turn = lane.booked.pop(seq, None)
        if turn is None:
            lane.free_at_seconds = max(lane.free_at_seconds, now_seconds) + 1 / per_second
            turn = lane.free_at_seconds - burst / per_second
        if turn <= now_seconds:
            return 0.0
        self._lapse(lane.booked, now_seconds)
        lane.booked[seq] = turn
        return turn - now_seconds

    def _lapse(self, booked: dict[int, float], now_seconds: float) -> None:
        """What was delivered to another gateway never comes back here."""
        while booked:
            oldest = next(iter(booked))
            if booked[oldest] > now_seconds - LAPSE_SECONDS:
                return
            del booked[oldest]
