"""States and moves of a job, and why an attempt ends: one table each. Illegal moves raise."""

from enum import StrEnum

from shared.errors import OverspillError


class JobState(StrEnum):
    QUEUED = "queued"
    PLACED = "placed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    ERROR = "error"


TERMINAL = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT, JobState.ERROR},
)

MOVES: dict[JobState, frozenset[JobState]] = {
    # queued -> queued: the binding reason of the wait changed, or a lost attempt waits for its next one.
    JobState.QUEUED: frozenset(
        {JobState.QUEUED, JobState.PLACED, JobState.CANCELLED, JobState.TIMED_OUT, JobState.ERROR}
    ),
    # placed -> placed: a cancel was asked for, or the attempt moved on; placed -> queued: to be tried again.
    JobState.PLACED: TERMINAL | {JobState.QUEUED, JobState.PLACED},
    **{state: frozenset() for state in TERMINAL},
}

MAX_ATTEMPTS = 3


class Reason(StrEnum):
    """Why an attempt (and with it perhaps its job) ended."""

    ALL_STEPS_OK = "all_steps_ok"
    STEP_FAILED = "step_failed"
    OUT_OF_MEMORY = "out_of_memory"
    ARTIFACT_MISSING = "artifact_missing"
    SOURCE_UNAVAILABLE = "source_unavailable"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    SETUP_FAILED = "setup_failed"
    RUNNER_LOST = "runner_lost"
    MACHINE_LOST = "machine_lost"
    NOT_ACCEPTED = "not_accepted"
    OBJECT_STORE_UNAVAILABLE = "object_store_unavailable"
    REFUSED = "refused"
    STALE = "stale"
    IMAGE_PULL = "image_pull"
    UNSCHEDULABLE = "unschedulable"
    EVICTED = "evicted"


OUR_FAULT = frozenset(
    {
        Reason.SETUP_FAILED,
        Reason.RUNNER_LOST,
        Reason.MACHINE_LOST,
        Reason.NOT_ACCEPTED,
        Reason.OBJECT_STORE_UNAVAILABLE,
        Reason.REFUSED,
        Reason.IMAGE_PULL,
        Reason.UNSCHEDULABLE,
        Reason.EVICTED,
    },
)
"""Outcome `error`: tried again on another target, at most MAX_ATTEMPTS in all."""


class IllegalMove(OverspillError):
    """A job can't go from {before} to {after}."""

    code = "illegal_move"


def move(before: JobState, after: JobState) -> JobState:
    """`after`, if the table allows it. Raises IllegalMove."""
    if after not in MOVES[before]:
        raise IllegalMove(before=before.value, after=after.value)
    return after
