"""What happened, once each, frozen. Named in the past tense and versioned; unknown fields are kept on read, refused
on write.

Any fact may come twice, late or out of order. A fact of an older epoch changes nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.facts.attempt import AttemptAccepted, AttemptEnded, AttemptStarted, Outcome
    from shared.facts.core import Fact
    from shared.facts.figures import CapacityCounted, RefusalsCounted
    from shared.facts.forgetting import ArtifactsKept, JobForgotten
    from shared.facts.job import JobRecord, Placement
    from shared.facts.machine import ClusterSeen, MachineBeat, MachineSeen
    from shared.facts.order import Desired, Order
    from shared.facts.step import ArtifactStored, StepEnded, StepReady, StepStarted, StepSummarised
    from shared.facts.submission import CancelRequested, JobSubmitted, SubmissionRefused

__all__ = [
    "ArtifactStored",
    "ArtifactsKept",
    "AttemptAccepted",
    "AttemptEnded",
    "AttemptStarted",
    "CancelRequested",
    "CapacityCounted",
    "ClusterSeen",
    "Desired",
    "Fact",
    "JobForgotten",
    "JobRecord",
    "JobSubmitted",
    "MachineBeat",
    "MachineSeen",
    "Order",
    "Outcome",
    "Placement",
    "RefusalsCounted",
    "StepEnded",
    "StepReady",
    "StepStarted",
    "StepSummarised",
    "SubmissionRefused",
]

_WHERE = {
    "ArtifactStored": "step",
    "ArtifactsKept": "forgetting",
    "AttemptAccepted": "attempt",
    "AttemptEnded": "attempt",
    "AttemptStarted": "attempt",
    "CancelRequested": "submission",
    "CapacityCounted": "figures",
    "ClusterSeen": "machine",
    "Desired": "order",
    "Fact": "core",
    "JobForgotten": "forgetting",
    "JobRecord": "job",
    "JobSubmitted": "submission",
    "MachineBeat": "machine",
    "MachineSeen": "machine",
    "Order": "order",
    "Outcome": "attempt",
    "Placement": "job",
    "RefusalsCounted": "figures",
    "StepEnded": "step",
    "StepReady": "step",
    "StepStarted": "step",
    "StepSummarised": "step",
    "SubmissionRefused": "submission",
}


def __getattr__(name: str) -> Any:
    """Each module when it is first asked for: a runner needs three of them and has to start soon."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(import_module(f"shared.facts.{_WHERE[name]}"), name)
