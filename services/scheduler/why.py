"""Answers to "why does it wait, where is it". Pure; from the memory of the leader or of a follower alike."""

import heapq

from services.scheduler.model import NS, Job, Key
from services.scheduler.placing import FENCING, RETRYING, TENANT_LIMIT, waiting_for
from services.scheduler.state import State
from shared.errors import NotFound
from shared.facts import Desired
from shared.lifecycle import JobState
from shared.placement import Explanation, explain
from shared.requests import WhyTold

COUNTED = 10_000
"""Positions beyond are not worked out."""


def why(state: State, key: Key, now: float) -> WhyTold:
    """Raises NotFound."""
    job = state.jobs.get(key)
    if job is None:
        raise NotFound(what="live job", name=key[1])
    record = job.record
    if record.ended:
        code = record.reason.value if record.reason else record.state.value
        detail = record.message or f"{record.state.value}: {code.replace('_', ' ')}"
        return WhyTold(state=record.state.value, code=code, detail=detail)
    if record.state is JobState.PLACED:
        return _placed(state, job, now)
    return _queued(state, job, now)


def _placed(state: State, job: Job, now: float) -> WhyTold:
    record, target = job.record, job.target
    where = f"{target.cluster}/{target.machine}" if target else "?"
    standing = job.orders.get(target) if target else None
    seconds = max(0.0, now - (record.placed_unix_ns or 0) / NS)
    if record.cancel_requested or job.cancel_asked:
        code, detail = "cancelling", f"asked to cancel; waits for {where} to confirm"
    elif standing is not None and standing.desired is Desired.TIMEOUT:
        code, detail = "timing_out", f"past its timeout; waits for {where} to confirm"
    elif record.epoch in job.accepted:
        code, detail = "running", f"runs on {where} as attempt {record.epoch}, placed {seconds:.0f} s ago"
    else:
        code = "waits_for_accept"
        detail = (
            f"sent to {where} {seconds:.0f} s ago, not accepted yet; "
            f"another machine is tried after {state.rules.accept_seconds:g} s"
        )
    return WhyTold(state=record.state.value, code=code, detail=detail)


def _queued(state: State, job: Job, now: float) -> WhyTold:
    found = explain(job.want, state.fleet)
    code = waiting_for(state, job, now)
    detail = _detail(state, job, code, found, now)
    if code not in (TENANT_LIMIT, FENCING, RETRYING):
        code = found.code.value if found.code else "next"
    return WhyTold(
        state=job.record.state.value,
        code=code,
        detail=detail,
        position=_position(state, job, now),
        candidates=found.candidates,
    )


def _detail(state: State, job: Job, code: str | None, found: Explanation, now: float) -> str:
    left = max(0.0, (job.record.not_before_unix_ns or 0) / NS - now)
    past = f" (after {job.record.message})" if job.record.past_attempts and job.record.message else ""
    match code:
        case "tenant_limit":
            tenant = state.tenant(job.record.tenant)
            return f"your tenant runs {tenant.active} jobs, its limit is {tenant.limit}; waits for one to end"
        case "fencing":
            return f"waits {left:.0f} s until the lost attempt has certainly ended itself{past}"
        case "retrying":
            return f"is tried again in {left:.0f} s{past}"
        case _:
            return found.detail + past


def _position(state: State, job: Job, now: float) -> int | None:
    """Jobs that would go before it if all fitted: the fair order played through, without regard to places."""
    half_life, total = state.rules.half_life_seconds, state.fleet.total
    waiting = {
        name: sorted(state.jobs[key].order_key for key in tenant.queued)
        for name, tenant in state.tenants.items()
        if tenant.queued
    }
    turns = [
        (state.tenant(name).usage.share(total, state.tenant(name).weight, now, half_life), places[0][1], name, 0)
        for name, places in waiting.items()
    ]
    heapq.heapify(turns)
    for before in range(COUNTED):
        share, _, name, index = heapq.heappop(turns)
        place = waiting[name][index]
        if (name, place[2]) == job.key:
            return before
        needs = state.jobs[name, place[2]].want.needs
        grown = max((need / whole if whole > 0 else 0.0) for need, whole in zip(needs, total, strict=True))
        if index + 1 < len(waiting[name]):
            following = share + grown / state.tenant(name).weight
            heapq.heappush(turns, (following, waiting[name][index + 1][1], name, index + 1))
    return None
