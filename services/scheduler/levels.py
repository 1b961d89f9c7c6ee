"""What the leader says of this instant: queue, running jobs, reserved capacity. Pure."""

from collections.abc import Mapping

from services.scheduler.model import NS
from services.scheduler.state import State
from shared import metrics
from shared.metrics import Gauge, Levels


def levels(state: State, now: float) -> Mapping[Gauge, Levels]:
    queued = [state.jobs[key] for tenant in state.tenants.values() for key in tenant.queued]
    oldest = min((job.record.created_unix_ns for job in queued), default=None)
    cores: dict[tuple[str, ...], float] = {}
    memory: dict[tuple[str, ...], float] = {}
    for machine in state.fleet:
        where, reserved = (machine.target.cluster, machine.pool), state.fleet.reserved(machine.target)
        cores[where] = cores.get(where, 0.0) + reserved.cpu_millis / 1000
        memory[where] = memory.get(where, 0.0) + reserved.memory_bytes
    return {
        metrics.LEADING: {(): 1},
        metrics.RUN_ACTIVE: {
            ("pending",): len(queued),
            ("executing",): sum(len(keys) for keys in state.placed_on.values()),
        },
        metrics.QUEUE_OLDEST: {(): max(0.0, now - oldest / NS) if oldest is not None else 0.0},
        metrics.CPU_REQUESTED: cores,
        metrics.MEMORY_REQUESTED: memory,
    }


def silence() -> Mapping[Gauge, Levels]:
    """Of an instance that does not lead."""
    quiet = (metrics.LEADING, metrics.RUN_ACTIVE, metrics.QUEUE_OLDEST, metrics.CPU_REQUESTED, metrics.MEMORY_REQUESTED)
    return {gauge: {} for gauge in quiet}
