"""From the projection's rows to views. Pure; the time is an argument."""

from urllib.parse import quote

from services.gateway.projection.reading import AttemptRow, JobPicture, ListedJob, StepRow
from services.gateway.views import (
    ArtifactView,
    AttemptView,
    JobSummary,
    JobView,
    PlacementView,
    StepView,
    TimesView,
)
from shared.clock import iso
from shared.facts import ArtifactStored, JobRecord
from shared.lifecycle import JobState
from shared.system_time import seconds_between, system_time

LAST_SECOND = 253_402_300_799
"""Of the year 9999. Clocks of machines, and whoever holds their credentials, may say anything."""


def time_of(unix_ns: int | None) -> str | None:
    return iso(min(unix_ns // 1_000_000, LAST_SECOND * 1000) / 1000) if unix_ns else None


def phase(job: ListedJob) -> str:
    """The record's state, refined by what its newest attempt told."""
    if job.record.state is not JobState.PLACED:
        return job.record.state.value
    for told, word in ((job.stepping, "running"), (job.started, "starting"), (job.accepted, "accepted")):
        if told:
            return word
    return JobState.PLACED.value


def summary(job: ListedJob) -> JobSummary:
    return JobSummary(**_summary_fields(job))


def _listed(picture: JobPicture) -> ListedJob:
    attempt = picture.attempt
    return ListedJob(
        picture.record,
        accepted=attempt is not None and attempt.accepted_ns is not None,
        started=attempt is not None and attempt.started_ns is not None,
        stepping=any(step.step > 0 for step in picture.steps),
    )


def _summary_fields(job: ListedJob) -> dict[str, object]:
    record = job.record
    return {
        "id": record.job,
        "name": record.name,
        "state": record.state.value,
        "phase": phase(job),
        "created": time_of(record.created_unix_ns) or iso(0),
        "ended": time_of(record.ended_unix_ns),
        "epoch": record.epoch,
        "labels": record.labels,
        "namespace": record.namespace,
        "priority": record.priority,
        "runs_on": record.runs_on,
        "submitted_by": record.submitted_by,
        "submitted_via": record.submitted_via,
        "placement": PlacementView(**record.placement.model_dump(include={"cluster", "pool", "target"}))
        if record.placement
        else None,
        "waiting_for": record.waiting_for,
        "reason": record.reason.value if record.reason else None,
        "message": record.message,
        "exit_code": record.exit_code,
        "failed_step": record.step,
        "cancel_requested": record.cancel_requested,
    }


def job_view(picture: JobPicture, step_names: list[str] | None, now_unix_ns: int) -> JobView:
    """`step_names`: from the spec, None when it isn't there any more; what facts say then serves."""
    record = picture.record
    return JobView(
        **_summary_fields(_listed(picture)),
        isolation=record.isolation,
        needs=record.needs,
        timeout_seconds=record.timeout_seconds,
        on_lost=record.on_lost,
        step_count=record.step_count,
        steps=_steps(picture, step_names),
        attempts=[_attempt(attempt) for attempt in picture.attempts],
        artifacts=[artifact_view(artifact, record.job) for artifact in picture.artifacts],
        times=times(record, picture.attempt, now_unix_ns),
    )


def _steps(picture: JobPicture, names: list[str] | None) -> list[StepView]:
    told = {row.step: row for row in picture.steps}
    views = []
    for number in range(1, picture.record.step_count + 1):
        row = told.get(number)
        given = names[number - 1] if names and number <= len(names) else f"step {number}"
        views.append(_step(row) if row else StepView(step=number, name=given, state="pending"))
    return views


def _step(row: StepRow) -> StepView:
    if row.ended is None:
        state = "ready" if row.ready_ns is not None else "running"
        return StepView(step=row.step, name=row.name, state=state, started=time_of(row.started_ns), tries=1)
    ended = row.ended
    return StepView(
        step=row.step,
        name=row.name,
        state=ended.state,
        verdict=ended.verdict,
        exit_code=ended.exit_code,
        signal=ended.signal,
        killed_for=None if ended.killed_for == "none" else ended.killed_for,
        tries=ended.tries,
        started=time_of(ended.started_unix_ns or row.started_ns),
        ended=time_of(ended.ended_unix_ns),
        duration_seconds=ended.duration_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=ended.peak_memory_bytes,
        oom_kills=ended.oom_kills,
        log_bytes=ended.log_bytes,
        log_dropped_bytes=ended.log_dropped_bytes,
        message=ended.message,
        outputs=ended.outputs,
    )


def _attempt(row: AttemptRow) -> AttemptView:
    return AttemptView(
        epoch=row.epoch,
        cluster=row.cluster,
        machine=row.machine,
        accepted=time_of(row.accepted_ns),
        started=time_of(row.started_ns),
        ended=time_of(row.ended_ns),
        outcome=row.ended.outcome if row.ended else None,
        reason=row.ended.reason.value if row.ended else None,
        message=row.ended.message if row.ended else "",
    )


def artifact_view(fact: ArtifactStored, job: str) -> ArtifactView:
    return ArtifactView(
        name=fact.name,
        size_bytes=fact.size_bytes,
        sha256=fact.sha256,
        files=fact.files,
        expires=time_of(fact.expires_unix * 1_000_000_000) if fact.expires_unix else None,
        url=f"/v1/jobs/{job}/artifacts/{quote(fact.name, safe='')}",
    )


def times(record: JobRecord, attempt: AttemptRow | None, now_unix_ns: int) -> TimesView:
    """Instants of the hub by its stream's time, durations by the runner's own clock."""
    total = seconds_between(record.created_unix_ns, record.ended_unix_ns or now_unix_ns) or 0.0
    queue = seconds_between(record.created_unix_ns, record.placed_unix_ns)
    if queue is None or record.placed_unix_ns is None:
        return TimesView(queue_seconds=total, system_seconds=total if record.ended else None, total_seconds=total)
    spans = (attempt.ended.spans if attempt and attempt.ended else None) or record.spans
    if spans is None:
        return TimesView(queue_seconds=queue, total_seconds=total)
    known = system_time(
        created_unix_ns=record.created_unix_ns,
        placed_unix_ns=record.placed_unix_ns,
        accepted_unix_ns=attempt.accepted_ns if attempt else None,
        prepare_seconds=spans.prepare_seconds,
        handover_seconds=spans.handover_seconds,
        finish_seconds=spans.finish_seconds,
        attempt_ended_unix_ns=attempt.ended_ns if attempt else None,
        ended_unix_ns=record.ended_unix_ns,
    )
    return TimesView(
        queue_seconds=known.queue,
        start_seconds=known.start,
        handover_seconds=known.handover,
        user_seconds=spans.user_seconds,
        finish_seconds=known.finish,
        verdict_seconds=known.verdict,
        system_seconds=known.total,
        total_seconds=total,
    )
