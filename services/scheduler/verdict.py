"""Moves of a record, each a function from the record to the next one. Pure; the writer adds `write_id` and `term`."""

from collections.abc import Mapping

from services.scheduler.model import NS, Rules
from shared.facts import AttemptEnded, JobRecord, Placement
from shared.facts.attempt import Outcome
from shared.facts.job import PastAttempt
from shared.lifecycle import MAX_ATTEMPTS, OUR_FAULT, JobState, Reason, move
from shared.placement import Machine

MESSAGE_LIMIT = 500
_LOST = (Reason.MACHINE_LOST, Reason.RUNNER_LOST, Reason.EVICTED)
_AT_ONCE = (*_LOST, Reason.NOT_ACCEPTED)
_MAY_RUN_ON = (*_AT_ONCE, Reason.IMAGE_PULL, Reason.SETUP_FAILED)
"""Told while something of the attempt may still be ending: of a pod one container fails, and the others get SIGTERM."""
_RETRIED = OUR_FAULT | {Reason.STALE}


def place(record: JobRecord, machine: Machine, now_ns: int) -> JobRecord:
    """The next attempt, on this machine."""
    return record.model_copy(
        update={
            "state": move(record.state, JobState.PLACED),
            "epoch": record.epoch + 1,
            "placement": _placement(machine),
            "placed_unix_ns": now_ns,
            "deadline_unix_ns": now_ns + int(record.timeout_seconds * NS),
            "not_before_unix_ns": None,
            "waiting_for": None,
        }
    )


def _placement(machine: Machine) -> Placement:
    cluster, room = machine.target
    return Placement(
        cluster=cluster,
        pool=machine.pool,
        target=machine.address,
        room=room if room != machine.address else None,
        node=machine.node,
    )


def wait(record: JobRecord, code: str | None) -> JobRecord:
    """The binding reason of the wait changed."""
    return record.model_copy(update={"state": move(record.state, JobState.QUEUED), "waiting_for": code})


def ask_to_cancel(record: JobRecord) -> JobRecord:
    return record.model_copy(update={"state": move(record.state, JobState.PLACED), "cancel_requested": True})


def cancel_unstarted(record: JobRecord, now_ns: int) -> JobRecord:
    return _finish(record, JobState.CANCELLED, Reason.CANCELLED, "cancelled before it started", now_ns)


def give_up_waiting(record: JobRecord, rules: Rules, now_ns: int) -> JobRecord:
    hours = rules.queue_timeout_seconds / 3600
    message = (
        f"waited {hours:.3g} h for a machine ({record.waiting_for or 'busy'}); `overspill why` explains such waits"
    )
    return _finish(record, JobState.TIMED_OUT, Reason.QUEUE_TIMEOUT, message, now_ns)


def after_attempt(
    record: JobRecord, ended: AttemptEnded, rules: Rules, now_ns: int, *, cancel_asked: bool, finished: bool = False
) -> JobRecord:
    """What the end of the current attempt makes of the job. Anything short of full evidence is no success.

    `finished`: the last step's exit code is recorded, and what it did isn't done twice.
    """
    outcome, reason, message = _weigh(ended, cancel_asked=cancel_asked)
    evidence = {"step": ended.step, "exit_code": ended.exit_code, "spans": ended.spans}
    match outcome:
        case JobState.ERROR if cancel_asked:
            note = f"cancelled; how the attempt ended isn't known ({reason.value}: {message})"
            return _finish(record, JobState.CANCELLED, Reason.CANCELLED, note, now_ns, evidence)
        case JobState.ERROR if not finished and _may_run_again(record, reason):
            return _again(record, reason, message, rules, now_ns)
        case _:
            return _finish(record, outcome, reason, message, now_ns, evidence)


_STATES: dict[Outcome, JobState] = {
    "succeeded": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
    "timed_out": JobState.TIMED_OUT,
    "error": JobState.ERROR,
}


def _weigh(ended: AttemptEnded, *, cancel_asked: bool) -> tuple[JobState, Reason, str]:
    if ended.outcome == "succeeded" and (ended.exit_code is None or ended.reason is not Reason.ALL_STEPS_OK):
        return JobState.ERROR, Reason.RUNNER_LOST, "the runner said success without an exit code to show for it"
    if ended.outcome == "cancelled" and not cancel_asked:
        return JobState.ERROR, Reason.RUNNER_LOST, "the attempt was ended though nobody asked for it"
    return _STATES[ended.outcome], ended.reason, ended.message


def _may_run_again(record: JobRecord, reason: Reason) -> bool:
    if reason not in _RETRIED or record.epoch >= MAX_ATTEMPTS:
        return False
    return not (record.on_lost == "fail" and reason in _LOST)


def needs_fence(record: JobRecord, reason: Reason) -> bool:
    """Whether an attempt that ended so may still run somewhere, and the next one may not begin before it can't."""
    return record.on_lost == "rerun-fenced" and reason in _MAY_RUN_ON


def _again(record: JobRecord, reason: Reason, message: str, rules: Rules, now_ns: int) -> JobRecord:
    delay = 0.0 if reason in _AT_ONCE else rules.retry_seconds * 2 ** (record.epoch - 1)
    if needs_fence(record, reason):
        delay = rules.fence_seconds + rules.fence_margin_seconds
    return record.model_copy(
        update={
            "state": move(record.state, JobState.QUEUED),
            "past_attempts": [*record.past_attempts, _past(record, reason)],
            "placement": None,
            "placed_unix_ns": None,
            "deadline_unix_ns": None,
            "not_before_unix_ns": now_ns + int(delay * NS),
            "waiting_for": None,
            "message": f"attempt {record.epoch}: {message or reason.value}"[:MESSAGE_LIMIT],
        }
    )


def _past(record: JobRecord, reason: Reason) -> PastAttempt:
    placement = record.placement
    if placement is None:
        raise ValueError(f"job {record.job} is placed nowhere")
    return PastAttempt(
        epoch=record.epoch, cluster=placement.cluster, target=placement.target, reason=reason, room=placement.room
    )


def _finish(
    record: JobRecord,
    state: JobState,
    reason: Reason,
    message: str,
    now_ns: int,
    evidence: Mapping[str, object] | None = None,
) -> JobRecord:
    return record.model_copy(
        update={
            "state": move(record.state, state),
            "reason": reason,
            "message": message[:MESSAGE_LIMIT],
            "ended_unix_ns": now_ns,
            "waiting_for": None,
            "not_before_unix_ns": None,
            **(evidence or {}),
        }
    )
