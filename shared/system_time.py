"""Where a job's time went: the platform's own parts apart from the steps'. Pure."""

from dataclasses import dataclass

START_TARGET_SECONDS = 60.0
"""A job started in time when a machine took it within this after it was accepted."""


@dataclass(frozen=True, slots=True)
class SystemTime:
    """Seconds; None: not known."""

    queue: float
    start: float
    """Placed to workspace ready."""
    handover: float
    finish: float
    """Last step's end to artifacts and log kept."""
    verdict: float | None
    """Attempt over to job over."""

    @property
    def total(self) -> float:
        return self.queue + self.start + self.handover + self.finish + (self.verdict or 0.0)

    def parts(self) -> dict[str, float]:
        """By the words people see."""
        known = {
            "queue": self.queue,
            "start": self.start,
            "hand-over": self.handover,
            "log flush": self.finish,
            "verdict": self.verdict,
        }
        return {part: seconds for part, seconds in known.items() if seconds is not None}


def system_time(
    *,
    created_unix_ns: int,
    placed_unix_ns: int,
    accepted_unix_ns: int | None,
    prepare_seconds: float,
    handover_seconds: float,
    finish_seconds: float,
    attempt_ended_unix_ns: int | None,
    ended_unix_ns: int | None,
) -> SystemTime:
    """Of the attempt that decided the job; what attempts before it took counts as queue."""
    dispatch = seconds_between(placed_unix_ns, accepted_unix_ns) or 0.0
    return SystemTime(
        queue=seconds_between(created_unix_ns, placed_unix_ns) or 0.0,
        start=dispatch + prepare_seconds,
        handover=handover_seconds,
        finish=finish_seconds,
        verdict=seconds_between(attempt_ended_unix_ns, ended_unix_ns),
    )


def seconds_between(begin_unix_ns: int | None, end_unix_ns: int | None) -> float | None:
    """Clocks of two machines may disagree: never below zero."""
    return max(0.0, (end_unix_ns - begin_unix_ns) / 1e9) if begin_unix_ns and end_unix_ns else None
