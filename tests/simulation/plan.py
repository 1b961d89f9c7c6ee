"""What a seed stands for: jobs, machines, weather, and the faults of a history."""

from dataclasses import dataclass
from random import Random

from shared.facts import JobRecord
from shared.lifecycle import JobState
from shared.needs import GIB, Capacity, Needs
from tests.simulation.kernel import START
from tests.simulation.streams import FINE, Weather

TROUBLE_SECONDS = 60.0
"""Faults happen before; afterwards everything is alive and the network is fine."""
SETTLED_SECONDS = 400.0
"""Liveness: so long after the last fault all that can run has run, and nothing is left."""
NS = 1_000_000_000
ENDLESS = 5000.0


@dataclass(frozen=True, slots=True)
class Step:
    seconds: float
    code: int
    stubborn: bool = False
    """Ignores SIGTERM."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    record: JobRecord
    at: float
    steps: tuple[Step, ...]
    cancel_at: float | None

    @property
    def key(self) -> tuple[str, str]:
        return self.record.tenant, self.record.job


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: str
    who: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    schedulers: int
    skews: tuple[float, ...]
    cpus: tuple[int, ...]
    """One a machine."""
    limits: dict[str, int]
    jobs: tuple[JobPlan, ...]
    weather: Weather
    faults: tuple[Fault, ...]


CALM = ("leader_freezes", "scheduler_dies", "agent_dies", "step_ctl_dies", "partition")
STORM = (
    *CALM,
    *CALM,
    "partition",
    "entrypoint_dies",
    "machine_reboots",
    "machine_is_gone",
    "machine_is_new",
    "bus_is_out",
    "metrics_dies",
    "agent_and_step_ctl_die",
    "leader_is_cut_off",
    "clock_jumps",
    "drain",
    "beats_lost",
    "metrics_freezes",
    "copies_come_late",
)


def plan(seed: int) -> Plan:
    random = Random(seed)
    machines = random.choice((1, 2, 2, 3, 3, 4))
    cpus = tuple(random.choice((1, 2, 2, 4)) for _ in range(machines))
    limits = {"ann": random.choice((1, 2, 3, 100)), "bob": random.choice((1, 2, 100))}
    jobs = tuple(_job(random, number, max(cpus)) for number in range(random.choice((1, 2, 2, 3, 3, 4, 5))))
    faults = tuple(_fault(random, machines) for _ in range(random.choice((0, 1, 2, 3, 3, 4, 5, 6))))
    schedulers = random.choice((2, 2, 2, 3))
    return Plan(
        seed,
        schedulers,
        tuple(random.uniform(-1, 1) for _ in range(schedulers)),
        cpus,
        limits,
        jobs,
        _weather(random),
        tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _weather(random: Random) -> Weather:
    match random.randrange(4):
        case 0:
            return FINE
        case 1:
            return Weather(slow=0.05, twice=0.05, missed=0.05)
        case 2:
            return Weather(lost=0.02, untold=0.03, late=0.02, missed=0.2, twice=0.1, slow=0.05)
        case _:
            return Weather(lost=0.03, untold=0.08, late=0.06, missed=0.3, twice=0.2, slow=0.15)


def _job(random: Random, number: int, largest: int) -> JobPlan:
    tenant = random.choice(("ann", "ann", "bob"))
    at = random.choice((0.0, 0.0, random.uniform(0, 40)))
    endless = random.random() < 0.15
    timeout = random.choice((25.0, 45.0)) if endless or random.random() < 0.1 else 600.0
    cancel = random.uniform(0, 60) if random.random() < (0.5 if endless else 0.15) else None
    if endless and cancel is not None:
        timeout = 2000.0
    count = random.choice((1, 1, 2, 3))
    steps = [
        Step(
            random.choice((0.05, 0.5, 3.0, random.uniform(0, 15), random.uniform(10, 50))),
            random.choice((0, 0, 0, 0, 1, 137)) if random.random() < 0.5 else 0,
            stubborn=random.random() < 0.3,
        )
        for _ in range(count)
    ]
    if endless:
        steps[-1] = Step(ENDLESS, 0, stubborn=random.random() < 0.5)
    record = JobRecord(
        tenant=tenant,
        job=f"j{number}",
        name="build",
        state=JobState.QUEUED,
        created_unix_ns=int((START + at + random.uniform(-5, 5)) * NS),
        content_hash="0",
        needs=Needs(
            cpu_millis=1000 * random.choice((1, 1, 1, min(2, largest), largest)), memory_bytes=GIB, disk_bytes=GIB
        ),
        timeout_seconds=timeout,
        on_lost=random.choice(("rerun", "rerun", "rerun-fenced", "rerun-fenced", "fail")),
        priority=random.choice((0, 0, 5)),
        step_count=count,
        submitted_by="x",
        write_id=f"admitted-{number}",
    )
    return JobPlan(record, at, tuple(steps), cancel)


def _fault(random: Random, machines: int) -> Fault:
    return Fault(
        random.uniform(0.0, TROUBLE_SECONDS * 0.9),
        random.choice(STORM),
        random.randrange(max(machines, 3)),
        random.choice((0.5, 3.0, random.uniform(3, 15), random.uniform(15, 45), random.uniform(25, 50))),
    )


def capacity(cpus: int) -> Capacity:
    return Capacity(cpu_millis=1000 * cpus, memory_bytes=64 * GIB, disk_bytes=640 * GIB)
