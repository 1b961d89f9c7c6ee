"""What the steps of an attempt told, where its end says less; and what of an attempt the history keeps. Pure."""

from collections.abc import Iterable

from shared.bus import Message
from shared.errors import Poison
from shared.facts import ArtifactsKept, ArtifactStored, AttemptEnded, JobRecord, StepEnded
from shared.lifecycle import Reason
from shared.wire import decode

KEPT_FACT_BYTES = 1500
"""Of one artifact; what says more of it was not written by our runner. All of them fit one message of DONE."""


def kept_of(record: JobRecord, told: Iterable[Message]) -> ArtifactsKept:
    """Its artifacts, the last word on each name. What can't be read is nobody's artifact."""
    found: dict[str, ArtifactStored] = {}
    for message in told:
        try:
            fact = decode(ArtifactStored, message.data)
        except Poison:
            continue
        if len(message.data) <= KEPT_FACT_BYTES:
            # Whose it is says the subject, which the server checked.
            found[fact.name] = fact.model_copy(
                update={"tenant": record.tenant, "job": record.job, "epoch": record.epoch}
            )
    kept = [found[name] for name in sorted(found)][: record.artifact_count]
    return ArtifactsKept(tenant=record.tenant, job=record.job, artifacts=kept)


def end_of_lost(ended: AttemptEnded, record: JobRecord, steps: Iterable[StepEnded]) -> AttemptEnded:
    """`ended`, corrected by what the steps had told before.

    Once the last exit code is recorded the attempt is not run again. A failure that is told stays a failure; where all
    went well, artifacts may have gone with the machine, so it is an error and no success.
    """
    told = {step.step: step for step in steps if step.epoch == ended.epoch}
    complete = len(told) >= record.step_count
    if not complete and not finished(ended, record, told.values()):
        return ended
    ran = [told[number] for number in sorted(told) if told[number].exit_code is not None]
    failed = next((step for step in ran if _failed_by_itself(step)), None)
    if failed is not None and complete:
        reason = Reason.OUT_OF_MEMORY if failed.killed_for == "memory" else Reason.STEP_FAILED
        return ended.model_copy(
            update={
                "outcome": "failed",
                "reason": reason,
                "step": failed.step,
                "exit_code": failed.exit_code,
                "message": failed.message or f"step {failed.step} failed; its machine was lost afterwards",
            }
        )
    if not finished(ended, record, ran):
        return ended
    message = f"{ended.message}, after the last step had ended with {ran[-1].exit_code}: it isn't run again"
    return ended.model_copy(
        update={"step": record.step_count, "exit_code": ran[-1].exit_code, "message": message[:500]}
    )


def finished(ended: AttemptEnded, record: JobRecord, steps: Iterable[StepEnded]) -> bool:
    """Whether the last step's exit code is recorded: its own, not that of a step the platform ended."""
    return any(
        step.step == record.step_count and step.exit_code is not None and _by_itself(step)
        for step in steps
        if step.epoch == ended.epoch
    )


def _by_itself(step: StepEnded) -> bool:
    return step.state not in ("cancelled", "skipped")


def _failed_by_itself(step: StepEnded) -> bool:
    return step.verdict == "failed" and _by_itself(step)
