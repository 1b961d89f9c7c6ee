"""What is not as it should be, a line each that names where to look. Pure."""

from collections.abc import Iterator, Sequence

from services.gateway.figures.views import (
    DeadLettersView,
    FiguresView,
    MachinesView,
    QueueView,
    ServiceView,
)
from shared.system_time import START_TARGET_SECONDS


def wrong(
    missing: Sequence[str],
    services: Sequence[ServiceView],
    machines: MachinesView | None,
    queue: QueueView,
    buried_lately: DeadLettersView | None,
    hour: FiguresView,
) -> Iterator[str]:
    """`services`: those that were asked, none without a bus; `machines` None: nobody could say; `buried_lately`: within
    a day. Nothing comes when all is well.
    """
    yield from missing
    for service in services:
        if not service.answers:
            yield f"{service.service} does not answer: look at its log, or start it again"
        yield from (f"{service.service}: {complaint}" for complaint in service.complaints)
    if machines is not None:
        yield from _machines(machines)
    yield from _queue(queue)
    if buried_lately is not None and buried_lately.newest:
        names = ", ".join(sorted(buried_lately.newest))
        yield f"messages were buried within a day (by {names}): read why in stream DLQ"
    errors = hour.stability.our_errors
    if errors:
        yield f"{_jobs(errors)} ended by our error within the hour: `overspill jobs --state error`"


def _machines(machines: MachinesView) -> Iterator[str]:
    if machines.lost:
        some = ", ".join(machines.lost[:5]) + (", …" if len(machines.lost) > 5 else "")  # noqa: PLR2004 - enough to begin
        yield f"lost: {some}: see `overspill clusters`, and the agent's log there"
    if not machines.ready:
        yield "no machine is ready: nothing can start; start an agent"


def _queue(queue: QueueView) -> Iterator[str]:
    wait = queue.oldest_wait_seconds
    if wait is not None and wait > START_TARGET_SECONDS:
        yield (
            f"{_jobs(queue.waiting)} waiting, the oldest for {_minutes(wait)} "
            f"(target {START_TARGET_SECONDS:.0f} s): ask `overspill why` of one, or add machines"
        )


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _minutes(seconds: float) -> str:
    minute = 60
    return f"{seconds:.0f} s" if seconds < 2 * minute else f"{seconds / minute:.0f} min"
