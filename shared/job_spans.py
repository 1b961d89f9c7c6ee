"""The spans every trace of a job is built around, by OpenTelemetry's CI/CD conventions.

A run is below the request that submitted it, an attempt below the run, a step below its attempt. Their ids follow from
the trace and the job, so whoever works below them (and may die) needs to be told nothing else: the scheduler tells the
runs and attempts, step-ctl the steps.
"""

from shared.facts import AttemptEnded, JobRecord, StepEnded
from shared.lifecycle import JobState
from shared.telemetry import Told, derived, valid_traceparent

ACTION = "RUN"
RESULTS: dict[JobState, str] = {
    JobState.SUCCEEDED: "success",
    JobState.FAILED: "failure",
    JobState.CANCELLED: "cancellation",
    JobState.TIMED_OUT: "timeout",
    JobState.ERROR: "error",
}
_STEP_RESULTS = {
    "exited": "failure",
    "signaled": "failure",
    "skipped": "skip",
    "timed_out": "timeout",
    "cancelled": "cancellation",
    "ended": "success",
    "not_started": "error",
}


def run_context(traceparent: str | None, job: str) -> str | None:
    return derived(traceparent, "run", job) if valid_traceparent(traceparent) and traceparent else None


def attempt_context(traceparent: str | None, job: str, epoch: int) -> str | None:
    return derived(traceparent, "attempt", job, epoch) if valid_traceparent(traceparent) and traceparent else None


def step_context(traceparent: str | None, job: str, epoch: int, step: int) -> str | None:
    return derived(traceparent, "step", job, epoch, step) if valid_traceparent(traceparent) and traceparent else None


def run_span(record: JobRecord) -> Told | None:
    """Of a job that is over. None when it belongs to no trace."""
    context = run_context(record.traceparent, record.job)
    if context is None:
        return None
    result = RESULTS[record.state]
    reason = record.reason.value if record.reason else "_OTHER"
    return Told(
        f"{ACTION} {record.name}" if record.name else ACTION,
        "SERVER",
        {
            "cicd.pipeline.action.name": ACTION,
            "cicd.pipeline.result": result,
            **_of_run(record),
            "overspill.attempts": record.epoch,
            "overspill.reason": reason,
        },
        context,
        record.traceparent,
        record.created_unix_ns,
        record.ended_unix_ns or record.created_unix_ns,
        error_type=reason if result in ("failure", "error", "timeout") else None,
        error_message=record.message,
    )


def attempt_span(record: JobRecord, ended: AttemptEnded) -> Told | None:
    """Of an attempt that is over; `record` is the job's while it was placed."""
    context = attempt_context(record.traceparent, record.job, record.epoch)
    if context is None or record.placement is None or record.placed_unix_ns is None:
        return None
    before = attempt_context(record.traceparent, record.job, record.epoch - 1) if record.epoch > 1 else None
    where = record.placement
    return Told(
        "attempt",
        "INTERNAL",
        {
            **_of_run(record),
            "cicd.worker.id": f"{where.cluster}/{where.target}",
            "cicd.worker.name": where.target,
            "overspill.pool": where.pool,
            "overspill.attempt": record.epoch,
            "overspill.outcome": ended.outcome,
            "overspill.reason": ended.reason.value,
        },
        context,
        run_context(record.traceparent, record.job),
        record.placed_unix_ns,
        ended.at_unix_ns,
        error_type=ended.reason.value if ended.outcome in ("failed", "error", "timed_out") else None,
        error_message=ended.message,
        links=(before,) if before else (),
    )


def step_span(traceparent: str | None, fact: StepEnded) -> Told | None:
    """`traceparent`: the attempt's, as its grant has it."""
    context = step_context(traceparent, fact.job, fact.epoch, fact.step)
    if context is None:
        return None
    result = "success" if fact.verdict == "ok" and fact.exit_code == 0 else _STEP_RESULTS[fact.state]
    begin = fact.started_unix_ns or fact.ended_unix_ns or fact.at_unix_ns
    attributes: dict[str, str | int | float | bool] = {
        "cicd.pipeline.task.name": fact.name,
        "cicd.pipeline.task.run.id": f"{fact.job}-{fact.epoch}-{fact.step}",
        "cicd.pipeline.task.run.result": result,
        "cicd.pipeline.run.id": fact.job,
        "overspill.step": fact.step,
        "overspill.step.tries": fact.tries,
    }
    if fact.exit_code is not None:
        attributes["process.exit.code"] = fact.exit_code
    failed = result in ("failure", "error", "timeout")
    return Told(
        f"{ACTION} {fact.name}",
        "INTERNAL",
        attributes,
        context,
        traceparent,
        begin,
        fact.ended_unix_ns or begin,
        error_type=_step_error(fact) if failed else None,
        error_message=fact.message,
    )


def _step_error(fact: StepEnded) -> str:
    if fact.killed_for not in ("none", "end"):
        return fact.killed_for
    return "signal" if fact.state == "signaled" else "exit_code" if fact.state == "exited" else fact.state


def _of_run(record: JobRecord) -> dict[str, str | int | float | bool]:
    return {
        "cicd.pipeline.name": record.name,
        "cicd.pipeline.run.id": record.job,
        "overspill.tenant": record.tenant,
    }
