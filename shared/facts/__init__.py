"""What happened, once each, frozen. Named in the past tense and versioned; unknown fields are kept on read, refused
on write.

Any fact may come twice, late or out of order. A fact of an older epoch changes nothing.
"""

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
