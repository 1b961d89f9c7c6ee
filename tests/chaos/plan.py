"""From a seed to what is done to whom, and when. Pure: the same seed, the same plan."""

import random
from dataclasses import dataclass
from pathlib import Path

from shared.crash_points import POINTS
from tests.chaos.jobs import JobPlan, make_jobs

POINTS_A_SEED = 2
REACHED = tuple(point.name for point in POINTS if point.process != "controller")
"""There is no Kubernetes here; `tests/kube` kills controllers."""
SERVICES = (
    "gateway",
    "scheduler-1",
    "scheduler-2",
    "log-collector-1",
    "log-collector-2",
    "cache",
    "cluster-metrics",
    "nats-server",
    "object-store",
)
AGENTS = ("agent-1", "agent-2")
VICTIMS = (*SERVICES, *AGENTS, "leader", "step-ctl", "entrypoint")
"""`leader`: the scheduler that leads then; `step-ctl`, `entrypoint`: one at work then."""
LOSES_STEPS = frozenset(
    {
        "entrypoint.after-started-before-exec",
        "entrypoint.after-exec",
        "entrypoint.after-command-before-exit",
    }
)
"""Deaths after which nobody knows how a step ended. Each permits one attempt to be lost, no other death permits any."""
OFTEN_PASSED = {
    "agent.": 6,
    "gateway.": 8,
    "scheduler.": 8,
    "log-collector.": 5,
    "step-ctl.mid-log": 2,
    "entrypoint.": 1,
    "cluster-metrics.after-publish": 5,
}
"""Up to which passage a point may wait for its kill; 1 unless named."""
ONCE_A_PROCESS = ("scheduler.after-lease", "scheduler.after-takeover", "agent.after-loss")


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL for `victim`, `at_seconds` after the round's begin."""

    at_seconds: float
    victim: str


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    points: tuple[tuple[str, int], ...]
    """(name, which passage)"""
    kills: tuple[Kill, ...]
    jobs: tuple[JobPlan, ...]
    spread_seconds: float
    """Over which the jobs are submitted."""


def plan(seed: int, jobs: int, runs: Path) -> Plan:
    """Seeds 0 to len(REACHED) / POINTS_A_SEED reach every point once; then again in another company."""
    chance = random.Random(seed)
    points = tuple((name, _passage(chance, name)) for name in _points_of(seed))
    return Plan(
        seed=seed,
        points=points,
        kills=_kills(chance, {name for name, _ in points}, within_seconds=jobs / 2),
        jobs=make_jobs(chance, jobs, runs),
        spread_seconds=chance.uniform(0.5, 6.0),
    )


def _points_of(seed: int) -> tuple[str, ...]:
    lap, place = divmod(seed * POINTS_A_SEED, len(REACHED))
    names = list(REACHED)
    random.Random(lap).shuffle(names)
    following = list(REACHED)
    random.Random(lap + 1).shuffle(following)
    chosen = (names + following)[place : place + POINTS_A_SEED]
    if "agent.after-loss-before-killing" in chosen:
        chosen.append("entrypoint.after-exec")  # else nothing is lost
    return tuple(dict.fromkeys(chosen))


def _passage(chance: random.Random, name: str) -> int:
    if name.startswith(ONCE_A_PROCESS):
        return 1
    most = next((most for begin, most in OFTEN_PASSED.items() if name.startswith(begin)), 1)
    return chance.randint(1, most)


def _kills(chance: random.Random, points: set[str], within_seconds: float) -> tuple[Kill, ...]:
    victims = list(VICTIMS)
    if any(name.startswith("step-ctl.") for name in points):
        # Three deaths of one attempt's step-ctl in a row rightly end the attempt.
        victims.remove("step-ctl")
    kills = []
    for _ in range(chance.randint(2, 6)):
        victim = chance.choice(victims)
        # Attempts run in the first part of a round; the platform has to live through all of it.
        until = within_seconds / 3 if victim in ("step-ctl", "entrypoint") else within_seconds
        kills.append(Kill(round(chance.uniform(0.0, until), 2), victim))
        if victim == "step-ctl":
            victims.remove(victim)
    return tuple(sorted(kills, key=lambda kill: kill.at_seconds))
