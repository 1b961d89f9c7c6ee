"""From state and time to effects. Pure.

Each job asks for at most one effect at a time: the first thing that is not yet as it should be. What was lost on the
way is found missing again the next time the job is looked at.
"""

from collections.abc import Iterator
from dataclasses import replace

from services.scheduler import verdict
from services.scheduler.model import (
    NS,
    Effect,
    EndAttempt,
    GiveOrder,
    Job,
    Move,
    Over,
    PurgeJob,
    PurgeOrder,
    ReadBack,
    Standing,
    Weigh,
    WriteDone,
)
from services.scheduler.placing import explain_waits, hold_for_the_starved, place_waiting
from services.scheduler.state import State
from shared.facts import AttemptEnded, Desired, Order
from shared.facts.attempt import Outcome
from shared.job_spans import attempt_context
from shared.lifecycle import JobState, Reason
from shared.placement import Target
from shared.pods import KUBE

UNTOLD_SECONDS = 86_400.0
"""An ended job stays so much longer at most while its last record is missing in the history."""


def decide(state: State, now: float) -> list[Effect]:
    """What is to be done now. Call it again after every fact, and at `wake_at`."""
    state.fire_timers(now)
    effects = [*_steps(state, now), *place_waiting(state, now)]
    if now - state.ticked_at >= state.rules.tick_seconds or now < state.ticked_at:
        state.ticked_at = now
        suspect_the_silent(state, now)
        hold_for_the_starved(state, now)
        effects.extend(explain_waits(state, now))
    return effects


def wake_at(state: State) -> float:
    """When `decide` must be called again though nothing happened."""
    tick = state.ticked_at + state.rules.tick_seconds
    timer = state.next_timer()
    return tick if timer is None else min(tick, timer)


def suspect_the_silent(state: State, now: float) -> None:
    """A machine whose picture is not told any more gets nothing new, ready as it may have looked."""
    for target, heard in state.machines.items():
        machine = state.fleet.machine(target)
        silent = now - max(heard.at, state.resumed_at) >= state.rules.suspect_seconds
        if silent and machine is not None and machine.state == "ready":
            state.fleet.put(replace(machine, state="suspect"))


def _steps(state: State, now: float) -> Iterator[Effect]:
    while state.dirty and state.in_flight < state.rules.max_in_flight:
        key, _ = state.dirty.popitem(last=False)
        job = state.jobs.get(key)
        if job is None or job.in_flight:
            continue  # looked at again when it has landed
        if job.retry_at > now:
            state.wake(job, job.retry_at)
            continue
        effect = _settle_the_unsure(job) if job.unsure else step(state, job, now)
        if effect is not None:
            state.launch(job, now, job.placing)
            yield effect


def _settle_the_unsure(job: Job) -> Effect:
    """A placement that nobody confirmed may still be on its way: only a write after it tells that it lost."""
    if job.placing is not None and job.record.state is JobState.QUEUED:
        return Move(job.record, job.seq)
    return ReadBack(job.key, job.seq)


def step(state: State, job: Job, now: float) -> Effect | None:
    """The next thing to be done for this job besides placing it."""
    if job.record.ended:
        return _after_the_end(state, job, now)
    if job.record.state is JobState.QUEUED:
        return _while_queued(state, job, now)
    return _while_placed(state, job, now)


def _after_the_end(state: State, job: Job, now: float) -> Effect | None:
    # DONE first: an order that still stands tells the next leader that DONE may be missing.
    if not job.done:
        return WriteDone(job.record)
    for target in sorted(job.orders):
        return PurgeOrder(job.key, target)
    ended_unix_ns = job.record.ended_unix_ns or 0
    due = ended_unix_ns / NS + state.rules.keep_seconds
    if now >= due or state.is_unwanted(job):
        return PurgeJob(job.key, job.seq, though_untold=state.is_unwanted(job) or now >= due + UNTOLD_SECONDS)
    state.wake(job, due)
    return None


def _while_queued(state: State, job: Job, now: float) -> Effect | None:
    record, now_ns = job.record, int(now * NS)
    if job.cancel_asked or record.cancel_requested or state.is_unwanted(job):
        return Move(verdict.cancel_unstarted(record, now_ns), job.seq, Over(record, None, job.accepted_unix_ns))
    give_up = max(record.created_unix_ns, record.not_before_unix_ns or 0) / NS + state.rules.queue_timeout_seconds
    if now >= give_up:
        moved = verdict.give_up_waiting(record, state.rules, now_ns)
        return Move(moved, job.seq, Over(record, None, job.accepted_unix_ns))
    stale = _revoke_others(state, job, None)
    if stale is not None:
        return stale
    not_before = max((record.not_before_unix_ns or 0) / NS, _fenced_until(state, job))
    if now < not_before:
        state.wake(job, not_before)
        return None
    if job.key not in state.lanes:
        state.wake(job, give_up)
        state.lanes.add(job.want, job.order_key)
    return None


def _fenced_until(state: State, job: Job) -> float:
    """Until its order was revoked, the machine of the attempt before could come back and be told to go on: the fence
    counts from there.
    """
    record = job.record
    if not record.past_attempts or not verdict.needs_fence(record, record.past_attempts[-1].reason):
        return 0.0
    delay = state.rules.fence_seconds + state.rules.fence_margin_seconds
    return max((order.since + delay for order in job.orders.values() if order.epoch == record.epoch), default=0.0)


def _while_placed(state: State, job: Job, now: float) -> Effect | None:
    record, target, now_ns = job.record, job.target, int(now * NS)
    if target is None:
        raise ValueError(f"job {record.job} is placed nowhere")
    ended = job.ended.get(record.epoch)
    if ended is not None:
        cancel_asked = job.cancel_asked or record.cancel_requested or state.is_unwanted(job)
        finished = job.finished.get(record.epoch)
        moved = verdict.after_attempt(
            record, ended, state.rules, now_ns, cancel_asked=cancel_asked, finished=finished is True
        )
        if moved.state is JobState.QUEUED and finished is None:
            return Weigh(ended, record)
        return Move(moved, job.seq, Over(record, ended, job.accepted_unix_ns))
    if (job.cancel_asked or state.is_unwanted(job)) and not record.cancel_requested:
        return Move(verdict.ask_to_cancel(record), job.seq)
    standing = job.orders.get(target)
    desired = _desired(job, standing, now)
    if standing is None or (standing.epoch, standing.desired) != (record.epoch, desired):
        return GiveOrder(_order(state, job, target, record.epoch, desired), standing.seq if standing else 0)
    return _revoke_others(state, job, target) or _overdue(state, job, target, standing, now)


def _desired(job: Job, standing: Standing | None, now: float) -> Desired:
    deadline = (job.record.deadline_unix_ns or 0) / NS
    timed_out = standing is not None and (standing.epoch, standing.desired) == (job.record.epoch, Desired.TIMEOUT)
    if timed_out or (now >= deadline and not job.record.cancel_requested):
        return Desired.TIMEOUT
    return Desired.CANCEL if job.record.cancel_requested else Desired.RUN


def _revoke_others(state: State, job: Job, current: Target | None) -> Effect | None:
    """Former attempts are not wanted any more wherever they are; their orders say so until the job's end."""
    for target, standing in sorted(job.orders.items(), key=lambda item: item[0]):
        if target != current and standing.desired is not Desired.CANCEL:
            return GiveOrder(_order(state, job, target, standing.epoch, Desired.CANCEL), standing.seq)
    return None


def _order(state: State, job: Job, target: Target, epoch: int, desired: Desired) -> Order:
    record = job.record
    return Order(
        tenant=record.tenant,
        job=record.job,
        epoch=epoch,
        cluster=target.cluster,
        target=target.machine,
        desired=desired,
        needs=record.needs,
        on_lost=record.on_lost,
        fence_seconds=state.rules.fence_seconds,
        timeout_seconds=record.timeout_seconds,
        term=0,
        traceparent=attempt_context(record.traceparent, record.job, epoch),
        node=record.placement.node if record.placement is not None and epoch == record.epoch else None,
    )


def _overdue(state: State, job: Job, target: Target, standing: Standing, now: float) -> Effect | None:
    """Ends the attempt when its machine is gone, or did not do in time what it was told."""
    machine = state.fleet.machine(target)
    silent = machine.state if machine is not None and machine.state in ("lost", "gone") else None
    if job.accepted.get(job.record.epoch) != target:
        return _unaccepted(state, job, standing, silent, now)
    if silent is not None:
        return _end(job, now, Reason.MACHINE_LOST, f"{_named(target)} is {silent}")
    if job.missing:
        return _end(job, now, Reason.RUNNER_LOST, f"{_named(target)} does not know the attempt any more")
    return _disobeyed(state, job, target, standing, now)


def _named(target: Target) -> str:
    return f"cluster {target.cluster}" if target.machine == KUBE else f"machine {target.machine}"


def _unaccepted(state: State, job: Job, standing: Standing, silent: str | None, now: float) -> Effect | None:
    since = max((job.record.placed_unix_ns or 0) / NS, standing.since, state.resumed_at)
    late_at = since + state.rules.accept_seconds
    if silent is not None:
        return _end(job, now, Reason.NOT_ACCEPTED, f"the machine is {silent}")
    if now >= late_at:
        why = f"the machine did not accept it within {state.rules.accept_seconds:g} s"
        return _end(job, now, Reason.NOT_ACCEPTED, why)
    state.wake(job, late_at)
    return None


def _disobeyed(state: State, job: Job, target: Target, standing: Standing, now: float) -> Effect | None:
    if standing.desired is Desired.RUN:
        state.wake(job, (job.record.deadline_unix_ns or 0) / NS)
        return None
    give_up = max(standing.since, state.resumed_at) + state.rules.kill_grace_seconds + state.rules.confirm_seconds
    if now < give_up:
        state.wake(job, give_up)
        return None
    reason = Reason.CANCELLED if standing.desired is Desired.CANCEL else Reason.TIMEOUT
    return _end(job, now, reason, f"{_named(target)} did not confirm that it ended the attempt")


_OUTCOMES: dict[Reason, Outcome] = {Reason.CANCELLED: "cancelled", Reason.TIMEOUT: "timed_out"}


def _end(job: Job, now: float, reason: Reason, message: str) -> EndAttempt:
    ended = AttemptEnded(
        tenant=job.record.tenant,
        job=job.record.job,
        epoch=job.record.epoch,
        at_unix_ns=int(now * NS),
        outcome=_OUTCOMES.get(reason, "error"),
        reason=reason,
        message=message,
    )
    return EndAttempt(ended, job.record, "accepted" if reason is Reason.NOT_ACCEPTED else "finished")
