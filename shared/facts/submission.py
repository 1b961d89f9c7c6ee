"""What comes in by the two doors."""

from typing import Any

from pydantic import Field

from shared.facts.core import Fact
from shared.ids import JobId, TenantId


class JobSubmitted(Fact, kind="job.submitted"):
    """A service asks for a job. `spec` is admitted exactly as over HTTP."""

    spec: dict[str, Any]


class CancelRequested(Fact, kind="job.cancel-requested"):
    """Somebody wants the job to end. Asking twice changes nothing."""

    tenant: TenantId
    job: JobId
    by: str = Field(max_length=200)
    at_unix_ns: int = Field(ge=0)


class SubmissionRefused(Fact, kind="submission.refused"):
    """Admission said no; `detail` names the remedy. `job` is the id it would have had."""

    tenant: TenantId
    job: JobId
    code: str
    detail: str = Field(max_length=2000)
    at_unix_ns: int = Field(ge=0)
