"""Token buckets, one a tenant. Pure: the time is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_seconds: float


class Rates:
    """Bounded by the number of tenants: only tenants that exist are asked for."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def take(self, tenant: str, per_second: float, burst: int, now_seconds: float) -> float:
        """Seconds to wait; 0 when one token was taken."""
        bucket = self._buckets.setdefault(tenant, _Bucket(float(burst), now_seconds))
        elapsed = max(0.0, now_seconds - bucket.at_seconds)
        bucket.tokens = min(float(burst), bucket.tokens + elapsed * per_second)
        bucket.at_seconds = now_seconds
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / per_second
        bucket.tokens -= 1
        return 0.0
