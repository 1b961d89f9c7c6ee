"""Who goes next, and where. Pure.

The rule. The tenant with the smallest dominant share over its weight goes next (`usage`); within a tenant priority,
then age. A job without room does not stop those behind it that fit elsewhere. So that it isn't passed by for ever: once
it has waited `starve_seconds` for room, a machine that could take it is held free for its want: nothing else is placed
there until the want's lane is served or empty. At most one hold a tenant and one a `starve_seconds`, and never more
than half of the machines (but one at least), so a hold costs others little.
"""

import heapq
from collections.abc import Iterator

from services.scheduler import verdict
from services.scheduler.model import NS, Job, Move
from services.scheduler.state import State
from shared.placement import Machine, Want, Why

TENANT_LIMIT = "tenant_limit"
FENCING = "fencing"
RETRYING = "retrying"

_Turn = tuple[float, int, str]
"""(share, age of the first job, tenant)"""


def place_waiting(state: State, now: float) -> Iterator[Move]:
    """Place what can be placed, in fair order."""
    turns = [turn for tenant in state.lanes.tenants() if (turn := _turn(state, tenant, now)) is not None]
    heapq.heapify(turns)
    examined = 0
    while turns and state.in_flight < state.rules.max_in_flight and examined < state.rules.examine_limit:
        tenant = heapq.heappop(turns)[2]
        first = state.lanes.first(tenant)
        if first is None:
            continue
        place, want = first
        chosen = state.fleet.choose(want, frozenset(state.jobs[tenant, place[2]].record.images))
        if isinstance(chosen, Why):
            state.lanes.shut(want, chosen)
            examined += 1
        else:
            machine = state.fleet.machine(chosen)
            if machine is not None:
                yield _place(state, state.jobs[tenant, place[2]], machine, now)
        if (turn := _turn(state, tenant, now)) is not None:
            heapq.heappush(turns, turn)


def _turn(state: State, name: str, now: float) -> _Turn | None:
    tenant, first = state.tenant(name), state.lanes.first(name)
    if first is None or tenant.active >= tenant.limit:
        return None
    share = tenant.usage.share(state.fleet.total, tenant.weight, now, state.rules.half_life_seconds)
    return share, first[0][1], name


def _place(state: State, job: Job, machine: Machine, now: float) -> Move:
    if state.fleet.unhold(job.want):
        state.tenant(job.record.tenant).held_at = now
        state.lanes.reopen()
    moved = verdict.place(job.record, machine, int(now * NS))
    state.launch(job, now, machine.target)
    return Move(moved, job.seq)


def hold_for_the_starved(state: State, now: float) -> None:
    """Hold machines for those who have waited too long for room."""
    holds = state.fleet.holds
    holders = {want.tenant for want in holds.values()}
    for target, want in holds.items():
        machine = state.fleet.machine(target)
        if machine is None or machine.state != "ready":
            state.fleet.unhold(want)
            state.lanes.reopen()
    for place, want, why in state.lanes.shut_heads():
        tenant = state.tenant(want.tenant)
        since = max(place[1] / NS, tenant.held_at)
        starved = why in (Why.BUSY, Why.HELD) and now - since >= state.rules.starve_seconds
        if starved and want.tenant not in holders and tenant.active < tenant.limit and _hold(state, want):
            holders.add(want.tenant)
            tenant.held_at = now


def _hold(state: State, want: Want) -> bool:
    held = state.fleet.holds
    if len(held) >= max(1, len(state.fleet) // 2):
        return False
    candidates = [machine for machine in state.fleet.usable(want) if machine.target not in held]
    if not candidates:
        return False
    # The one that lacks least is likely free soonest.
    nearest = min(candidates, key=lambda machine: (_lack(state, want, machine), machine.target))
    state.fleet.hold(nearest.target, want)
    return True


def _lack(state: State, want: Want, machine: Machine) -> float:
    free, whole = state.fleet.free(machine), machine.allocatable
    return max((need - have) / max(1, all_of_it) for need, have, all_of_it in zip(want.needs, free, whole, strict=True))


def waiting_for(state: State, job: Job, now: float) -> str | None:
    """Code of the reason that binds a queued job's wait, None when it simply has not been its turn yet."""
    record = job.record
    if now < (record.not_before_unix_ns or 0) / NS:
        return FENCING if record.on_lost == "rerun-fenced" else RETRYING
    tenant = state.tenant(record.tenant)
    if tenant.active >= tenant.limit:
        return TENANT_LIMIT
    why = state.lanes.why(job.key)
    return None if why is None else why.value


def explain_waits(state: State, now: float) -> Iterator[Move]:
    """Record the reasons of waits that changed; a bounded part of the queue at each tick, in turn."""
    for _ in range(min(len(state.sweep), state.rules.sweep_limit)):
        if state.in_flight >= state.rules.max_in_flight:
            return
        key = next(iter(state.sweep))
        state.sweep.move_to_end(key)
        job = state.jobs[key]
        code = waiting_for(state, job, now)
        long_enough = now - job.record.created_unix_ns / NS >= state.rules.explain_after_seconds
        if code is not None and code != job.record.waiting_for and long_enough and not job.in_flight:
            state.launch(job, now)
            yield Move(verdict.wait(job.record, code), job.seq)
