"""The models whose form a version promises to the next, and where their frozen copies are."""

import json
from pathlib import Path
from typing import Any

from runner.protocol.attempt import Attempt
from shared.facts import (
    ArtifactStored,
    AttemptAccepted,
    AttemptEnded,
    AttemptStarted,
    CancelRequested,
    ClusterSeen,
    JobRecord,
    JobSubmitted,
    MachineBeat,
    MachineSeen,
    Order,
    StepEnded,
    StepReady,
    StepStarted,
    StepSummarised,
    SubmissionRefused,
)
from shared.requests import (
    DurableAsked,
    DurableTold,
    Grant,
    GrantAsked,
    OrdersAsked,
    OrdersTold,
    Refusal,
    UrlsAsked,
    UrlsTold,
)
from shared.spec import JobSpec
from shared.tenancy import ClusterRecord, TenantRecord
from shared.wire import Model

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("v*") if path.is_dir())

EDGE_SAYS: tuple[type[Model], ...] = (
    AttemptAccepted,
    AttemptStarted,
    AttemptEnded,
    StepStarted,
    StepReady,
    StepEnded,
    StepSummarised,
    ArtifactStored,
    MachineBeat,
    OrdersAsked,
    GrantAsked,
    UrlsAsked,
    DurableAsked,
)
HUB_SAYS: tuple[type[Model], ...] = (Order, OrdersTold, Grant, UrlsTold, DurableTold, Refusal)
SERVICES_SAY: tuple[type[Model], ...] = (JobSubmitted,)
SERVICES_HEAR: tuple[type[Model], ...] = (JobRecord, CancelRequested, SubmissionRefused)
STORED: tuple[type[Model], ...] = (JobRecord, Order, TenantRecord, ClusterRecord, MachineSeen, ClusterSeen, Attempt)
"""What a version leaves in streams, buckets and attempt directories for the next to find."""
EVERY: tuple[type[Any], ...] = tuple(
    dict.fromkeys([*EDGE_SAYS, *HUB_SAYS, *SERVICES_SAY, *SERVICES_HEAR, *STORED, JobSpec])
)


def frozen(version: str, model: type[Any]) -> dict[str, Any]:
    """`reads` and `writes`: the JSON Schemas that the version had."""
    found: dict[str, Any] = json.loads((HERE / version / "schemas" / f"{model.__name__}.json").read_text())
    return found


def recorded(version: str) -> list[dict[str, Any]]:
    """Messages as they were on the bus: `subject`, `headers`, `data` (text), `by` (edge or hub), and for a question
    `answer` and `answer_headers`.
    """
    found: list[dict[str, Any]] = json.loads((HERE / version / "messages.json").read_text())
    return found
