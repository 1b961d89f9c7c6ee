"""What passes between the gateway's rooms."""

from dataclasses import dataclass
from typing import Any, Literal

from shared.facts import JobRecord
from shared.principal import Principal
from shared.spec import JobSpec

Door = Literal["http", "bus"]


@dataclass(frozen=True, slots=True)
class Submission:
    """A wish for a job, at either door. `named_by` says what its id was derived from, None when it is random."""

    principal: Principal
    raw: Any
    size_bytes: int
    job: str
    via: Door
    named_by: Literal["Idempotency-Key", "ce-source and ce-id"] | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """What admission decided to write."""

    spec: JobSpec
    spec_bytes: bytes
    record: JobRecord
    record_bytes: bytes

    @property
    def tree(self) -> str | None:
        """The uploaded tree the job needs."""
        return getattr(self.spec.source, "tree", None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job stands. `created` is False when the same submission had made it before."""

    record: JobRecord
    created: bool
