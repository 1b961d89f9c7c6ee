"""What of a log nobody has: bytes that were lost with their machine, or are no longer kept. Pure.

A log is whole when its last chunk came and no byte before it lacks. Of an attempt that is over whatever else lacks is
missing, and said to be: a log is never silently short.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.facts.log import missing_notice
from shared.requests import LogTold


@dataclass(frozen=True, slots=True)
class AttemptLogs:
    """What facts say of an attempt's logs."""

    started: bool = False
    """Its step-ctl was at work: the platform's own log has something."""
    told_by_runner: bool = False
    """Its end was told by its own step-ctl, which does so once the bus has every byte."""
    steps: Mapping[int, int | None] = field(default_factory=dict)
    """Steps that began: the length of their log in bytes once they have ended."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Some bytes. `at_least`: more may be missing; nobody knows how much."""

    count_bytes: int
    at_least: bool = False
    expired: bool = False

    @property
    def notice(self) -> str:
        return missing_notice(self.count_bytes, at_least=self.at_least, expired=self.expired)


def missing_end(told: LogTold, step: int, facts: AttemptLogs) -> Missing | None:
    """What lacks behind `told.end` of a log whose attempt is over; None: nothing. Holes before it are not counted."""
    if told.complete:
        return None
    length = facts.steps.get(step)
    if length is not None:
        count = length - told.end
        return Missing(count, expired=facts.told_by_runner) if count > 0 else None
    began = step in facts.steps or (step == 0 and facts.started)
    if not began and max(told.end, told.written_bytes) == 0:
        return None
    return Missing(max(0, told.written_bytes - told.end), at_least=True, expired=facts.told_by_runner)
