"""What outlives a job's facts, and the end of all that is known of it."""

from typing import Literal

from pydantic import Field

from shared.facts.core import Fact
from shared.facts.step import ArtifactStored
from shared.ids import JobId, TenantId

STANDS_SECONDS = 7 * 86_400
"""A tombstone stands at least so long: a reader that was away for less has missed none."""
CREDENTIAL_MARGIN_SECONDS = 86_400
"""An attempt's credential expires within the job's timeout and this."""


def stands_until(now: float, ended_unix_ns: int | None, timeout_seconds: float) -> int:
    """Unix seconds after which nobody can write about the job and every reader has seen the tombstone."""
    last_written = (ended_unix_ns / 1e9 if ended_unix_ns is not None else now) + timeout_seconds
    return int(max(now + STANDS_SECONDS, min(last_written, now + timeout_seconds) + CREDENTIAL_MARGIN_SECONDS))


class ArtifactsKept(Fact, kind="job.artifacts-kept"):
    """What the last attempt stored. Written before the job's final record, for jobs whose spec names artifacts."""

    tenant: TenantId
    job: JobId
    artifacts: list[ArtifactStored] = Field(max_length=64)


class JobForgotten(Fact, kind="job.forgotten"):
    """Somebody deleted the job, or its time in the history is over. Expected sequence 0: whoever comes first.

    It stands until nothing that could still write about the job is left, so that late facts find it.
    """

    tenant: TenantId
    job: JobId
    why: Literal["deleted", "expired"]
    by: str = Field(max_length=200)
    at_unix_ns: int = Field(ge=0)
    until_unix: int = Field(ge=0)
    """Then all is purged once more, and this with it."""
