"""What must always hold of a state. Tests end with it; a simulation checks it after every fact."""

from collections import Counter

from services.scheduler.model import Job, Key
from services.scheduler.state import State
from shared.lifecycle import MAX_ATTEMPTS, TERMINAL, JobState, Reason
from shared.placement import Amount, Target


def validate_state(state: State) -> None:
    """Raises AssertionError that says which invariant is broken."""
    for key, job in state.jobs.items():
        assert key == job.key, f"{key} is filed as {job.key}"
        _check_job(state, job)
    _check_indexes(state)
    _check_lanes(state)


def _check_job(state: State, job: Job) -> None:
    record, key = job.record, job.key
    if record.state is JobState.PLACED:
        assert record.placement is not None, f"{key} is placed nowhere"
        assert record.epoch >= 1, f"{key} is placed without an attempt"
        assert job.reserved == job.room, f"{key} holds no reservation where it runs"
    if record.state is JobState.SUCCEEDED:
        assert record.exit_code is not None, f"{key} succeeded without an exit code"
        assert record.reason is Reason.ALL_STEPS_OK, f"{key} succeeded for {record.reason}"
    if record.state in TERMINAL:
        assert job.reserved is None, f"{key} has ended and holds a reservation"
        assert record.ended_unix_ns is not None, f"{key} ended at no time"
    assert record.epoch <= MAX_ATTEMPTS, f"{key} had {record.epoch} attempts"
    assert key not in state.lanes or (record.state is JobState.QUEUED and not job.in_flight), f"{key} waits and doesn't"


def _check_indexes(state: State) -> None:
    reserved: dict[Target, Amount] = {}
    active: Counter[str] = Counter()
    placed_on: dict[Target, set[Key]] = {}
    for key, job in state.jobs.items():
        if job.reserved is not None:
            reserved[job.reserved] = reserved.get(job.reserved, Amount(0, 0, 0)).plus(job.want.needs)
            placed_on.setdefault(job.reserved, set()).add(key)
            active[job.record.tenant] += 1
    assert reserved == state.fleet.reservations, "reservations differ from the jobs'"
    assert placed_on == state.placed_on, "jobs by machine differ from the jobs' reservations"
    for name, tenant in state.tenants.items():
        assert tenant.active == active[name], f"tenant {name} runs {active[name]} jobs, counted {tenant.active}"
        running = Amount(0, 0, 0)
        queued = set()
        for key, job in state.jobs.items():
            if key[0] == name:
                running = running.plus(job.want.needs) if job.reserved is not None else running
                if job.record.state is JobState.QUEUED:
                    queued.add(key)
        assert tenant.usage.running == running, f"usage of {name} differs from what it runs"
        assert tenant.queued == queued, f"the queue of {name} differs from its queued jobs"
    assert state.in_flight == sum(job.in_flight for job in state.jobs.values()), "effects in flight are miscounted"


def _check_lanes(state: State) -> None:
    for key in state.lanes.keys():  # noqa: SIM118 - no mapping
        assert key in state.jobs, f"{key} waits and is unknown"
    for target, want in state.fleet.holds.items():
        assert any(want == job.want for job in state.jobs.values()), f"{target} is held for nobody"
