"""What a history runs: the real pure cores, or one of them broken on purpose."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.agent.policy import reconcile
from runner.step_ctl.policy import verdict
from services.cluster_metrics.settings import Settings as MetricsSettings
from services.scheduler.evidence import end_of_lost, finished
from services.scheduler.model import Rules
from services.scheduler.policy import decide
from services.scheduler.takeover import take_over


def lease_holds(now: float, until: float) -> bool:
    """As services/scheduler/lease.py: nothing is begun past the part of the lease that is used."""
    return now < until


@dataclass(frozen=True, slots=True)
class Cores:
    decide: Callable[..., Any] = decide
    take_over: Callable[..., Any] = take_over
    end_of_lost: Callable[..., Any] = end_of_lost
    finished: Callable[..., Any] = finished
    reconcile: Callable[..., Any] = reconcile
    verdict: Callable[..., Any] = verdict
    lease_holds: Callable[[float, float], bool] = lease_holds
    unwatched: frozenset[str] = frozenset()
    """Properties that are not looked at, so that one behind them is reached."""


REAL = Cores()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. In the proportions of production, but coarser, so that a history has few events."""

    lease: float = 12.0
    beat: float = 5.0
    orders: float = 8.0
    metrics_tick: float = 2.5
    kill_grace: float = 5.0
    fence: float = 30.0
    wall_skew: float = 2.0
    """Of schedulers' wall clocks, each way: less than half of the fence's margin."""


TIMES = Times()
RULES = Rules(
    accept_seconds=10.0,
    retry_seconds=2.0,
    fence_seconds=TIMES.fence,
    fence_margin_seconds=5.0,
    kill_grace_seconds=TIMES.kill_grace,
    confirm_seconds=15.0,
    missing_seconds=30.0,
    queue_timeout_seconds=3000.0,
    keep_seconds=150.0,
    starve_seconds=20.0,
    suspect_seconds=40.0,
    tick_seconds=5.0,
)
METRICS = MetricsSettings(silent_beats=3, tell_every_seconds=12.0, coalesce_seconds=2.0, forget_seconds=3000.0)
