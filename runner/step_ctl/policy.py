"""What is to be told of what was seen, and how the attempt ended. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.protocol.attempt import Attempt
from runner.step_ctl.reading import Seen, StepSeen
from shared.facts.attempt import Outcome, Spans
from shared.facts.step import StepEnded, StepFact, StepReady, StepStarted
from shared.lifecycle import Reason
from shared.requests import Grant

MESSAGE_LIMIT = 500
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    reason: Reason
    message: str = ""
    step: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a step left in its output file, or why that can't be taken."""

    values: Mapping[str, str]
    complaint: str = ""


def step_facts(grant: Grant, names: Sequence[str], step: StepSeen) -> Iterator[StepFact]:
    """What has happened of a step so far but its end, in order."""
    if step.started_unix_ns is not None:
        yield StepStarted(**_head(grant, names, step, step.started_unix_ns), tries=step.tries)
    if step.ready_unix_ns is not None:
        yield StepReady(**_head(grant, names, step, step.ready_unix_ns))


def step_ended(grant: Grant, names: Sequence[str], step: StepSeen, outputs: Outputs) -> StepEnded | None:
    record = step.exit
    if record is None:
        return None
    message = "; ".join(part for part in (record.message, outputs.complaint) if part)
    return StepEnded.model_validate(
        {
            **_head(grant, names, step, record.ended_unix_ns),
            "state": record.state,
            "verdict": record.verdict,
            "exit_code": record.code,
            "signal": record.signal,
            "killed_for": record.killed_for,
            "tries": record.tries,
            "started_unix_ns": record.started_unix_ns,
            "ended_unix_ns": record.ended_unix_ns,
            "duration_seconds": record.duration_ns / NS,
            "cpu_seconds": record.cpu_us / 1_000_000,
            "peak_memory_bytes": record.peak_memory_bytes,
            "oom_kills": record.oom_kills,
            "usage_from": record.usage_from,
            "log_bytes": record.log_bytes,
            "log_dropped_bytes": record.log_dropped_bytes,
            "message": message[:MESSAGE_LIMIT],
            "outputs": dict(outputs.values),
        }
    )


def _head(grant: Grant, names: Sequence[str], step: StepSeen, at_unix_ns: int) -> dict[str, object]:
    return {
        "tenant": grant.tenant,
        "job": grant.job,
        "epoch": grant.epoch,
        "at_unix_ns": at_unix_ns,
        "step": step.number,
        "name": names[step.number - 1][:200],
    }


def verdict(seen: Seen, attempt: Attempt) -> Verdict | None:
    """How the attempt ended, None while something of it may still run. Artifacts are not looked at."""
    if not seen.over:
        return None
    last = _last_foreground_that_ran(seen)
    code = last.exit.code if last and last.exit else None
    return (
        _of_source(seen)
        or _of_failed_step(seen, code)
        or _of_ending(seen, attempt, code)
        or _of_lost_step(seen, code)
        or _of_good_end(seen, code)
    )


def _of_source(seen: Seen) -> Verdict | None:
    why = seen.source.get("why", "")[:MESSAGE_LIMIT]
    match seen.source.get("state"):
        case "failed":
            return Verdict("failed", Reason.SOURCE_UNAVAILABLE, why)
        case "error":
            reason = seen.source.get("reason")
            known = reason == Reason.SETUP_FAILED.value
            return Verdict("error", Reason.SETUP_FAILED if known else Reason.OBJECT_STORE_UNAVAILABLE, why)
        case _:
            return None


def _of_failed_step(seen: Seen, code: int | None) -> Verdict | None:
    for step in seen.steps:
        if step.exit is not None and step.exit.failed_by_itself:
            reason = Reason.OUT_OF_MEMORY if step.exit.killed_for == "memory" else Reason.STEP_FAILED
            return Verdict("failed", reason, _why(step), step.number, code if code is not None else step.exit.code)
    return None


def _why(step: StepSeen) -> str:
    record = step.exit
    if record is None:
        return ""
    if record.message:
        return record.message[:MESSAGE_LIMIT]
    if record.state == "timed_out":
        return f"step {step.number} took longer than its timeout"
    if record.signal is not None:
        return f"step {step.number} was ended by signal {record.signal}"
    return f"step {step.number} exited with {record.code}"


def _of_ending(seen: Seen, attempt: Attempt, code: int | None) -> Verdict | None:
    if seen.finish == "ok":
        return None  # it had gone well before anybody ended it
    running = next(
        (step.number for step in seen.steps if step.exit is not None and step.exit.state == "cancelled"), None
    )
    if seen.cancel == "lost" and any(step.lost is not None for step in seen.steps):
        return None
    if seen.cancel is not None:
        # One of a later version ends everything too: somebody's wish.
        outcome, reason, message = _ENDINGS.get(seen.cancel, _ENDINGS["cancel"])
        return Verdict(outcome, reason, message.format(attempt=attempt), running, code)
    if seen.finish == "cancelled" and all(step.lost is None for step in seen.steps):
        return Verdict("error", Reason.EVICTED, "the machine's agent was stopped, or the pod deleted", running, code)
    return None


_ENDINGS: dict[str, tuple[Outcome, Reason, str]] = {
    "cancel": ("cancelled", Reason.CANCELLED, ""),
    "timeout": ("timed_out", Reason.TIMEOUT, "the job took longer than its timeout of {attempt.timeout_seconds:g} s"),
    "stale": ("error", Reason.STALE, "this attempt is no longer wanted here"),
    "lost": ("error", Reason.RUNNER_LOST, "a process that ran steps of it is gone"),
    "fenced": (
        "error",
        Reason.MACHINE_LOST,
        "no contact with the hub for {attempt.fence_seconds:g} s; on-lost: rerun-fenced ends the attempt then",
    ),
}


def ended_while_keeping(seen: Seen, attempt: Attempt, verdict: Verdict) -> Verdict:
    """What `cancel` makes of a verdict whose artifacts were being stored: success it is none without them."""
    if verdict.outcome != "succeeded":
        return verdict
    outcome, reason, message = _ENDINGS.get(seen.cancel or "cancel", _ENDINGS["cancel"])
    told = message.format(attempt=attempt)
    return Verdict(
        outcome, reason, f"{told}; ended while artifacts were stored".removeprefix("; "), None, verdict.exit_code
    )


def _of_lost_step(seen: Seen, code: int | None) -> Verdict | None:
    for step in seen.steps:
        if step.lost is not None:
            return Verdict("error", Reason.RUNNER_LOST, step.lost[:MESSAGE_LIMIT], step.number, code)
    return None


def _of_good_end(seen: Seen, code: int | None) -> Verdict:
    if seen.finish != "ok":
        return Verdict("error", Reason.SETUP_FAILED, f"the files say {seen.finish}, but no step failed", None, code)
    if code is None:
        return Verdict("failed", Reason.STEP_FAILED, "no step ran: the `if` of every one was false")
    return Verdict("succeeded", Reason.ALL_STEPS_OK, "", None, code)


def _last_foreground_that_ran(seen: Seen) -> StepSeen | None:
    return next((s for s in reversed(seen.steps) if not s.background and s.exit is not None and s.exit.ran), None)


def spans(seen: Seen, attempt: Attempt, now_unix_ns: int) -> Spans:
    """Where the time went. Durations are the entrypoint's monotonic ones; gaps are clipped at 0 should the wall clock
    jump.
    """
    ready_text = seen.source.get("ready_unix_ns", "")
    ready = int(ready_text) if ready_text.isdecimal() else attempt.ready_unix_ns or attempt.accepted_unix_ns
    user, gaps, at, last = 0, 0, ready, ready
    for step in seen.steps:
        record = step.exit
        if record is None or record.state == "skipped":
            continue
        gaps += max(0, record.started_unix_ns - at)
        last = max(last, record.ended_unix_ns)
        if step.background:
            at = step.ready_unix_ns or record.ended_unix_ns
        else:
            at = record.ended_unix_ns
            user += record.duration_ns
    return Spans(
        prepare_seconds=max(0, ready - attempt.accepted_unix_ns) / NS,
        handover_seconds=gaps / NS,
        user_seconds=user / NS,
        finish_seconds=max(0, now_unix_ns - last) / NS,
    )
