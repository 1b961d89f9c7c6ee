"""What `overspill status` calls wrong."""

from services.gateway.figures.views import (
    DeadLettersView,
    FiguresView,
    MachinesView,
    QueueView,
    ServiceView,
    SpeedView,
    StabilityView,
)
from services.gateway.figures.wrong import wrong

WELL = {
    "missing": (),
    "services": (ServiceView(service="scheduler", answers=True),),
    "machines": MachinesView(ready=1, draining=0, lost=[]),
    "queue": QueueView(waiting=0, running=3),
    "buried_lately": None,
}


def hour(our_errors: int = 0) -> FiguresView:
    stability = StabilityView(
        accepted=1,
        started_in_time=1,
        started_late=0,
        succeeded=1,
        failed=0,
        cancelled=0,
        timed_out=0,
        our_errors=our_errors,
        retried_attempts=0,
        start_target_seconds=60,
        share=1.0,
    )
    speed = SpeedView(jobs=0, p50_seconds=None, p99_seconds=None, mean_seconds_by_part={})
    return FiguresView(stability=stability, speed=speed, cost=[], refusals={})


def lines(our_errors: int = 0, **changed: object) -> list[str]:
    return list(wrong(**{**WELL, **changed}, hour=hour(our_errors)))  # type: ignore[arg-type]  # a table of cases


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert lines() == []


def test_a_silent_or_complaining_service_is_named() -> None:
    silent = ServiceView(service="cache", answers=False)
    complains = ServiceView(service="object-store", answers=True, complaints=["it is full"])
    assert lines(services=(silent, complains)) == [
        "cache does not answer: look at its log, or start it again",
        "object-store: it is full",
    ]


def test_lost_machines_are_named_and_no_machine_at_all_is_wrong_too() -> None:
    (line,) = lines(machines=MachinesView(ready=1, draining=0, lost=[f"c/m{n}" for n in range(7)]))
    assert line.startswith("lost: c/m0, c/m1, c/m2, c/m3, c/m4, …")
    (line,) = lines(machines=MachinesView(ready=0, draining=1, lost=[]))
    assert line.startswith("no machine is ready")
    assert lines(machines=None) == []


def test_a_queue_is_wrong_only_once_its_oldest_job_is_late() -> None:
    assert lines(queue=QueueView(waiting=500, oldest_wait_seconds=59, running=1)) == []
    (line,) = lines(queue=QueueView(waiting=1, oldest_wait_seconds=600, running=1))
    assert line.startswith("1 job waiting, the oldest for 10 min (target 60 s)")


def test_buried_messages_and_our_errors_are_wrong() -> None:
    letters = DeadLettersView(count=0, newest={"scheduler": "2026-01-01T00:00:00.000Z"})
    assert lines(buried_lately=letters)[0].startswith("messages were buried within a day (by scheduler)")
    assert lines(our_errors=2) == ["2 jobs ended by our error within the hour: `overspill jobs --state error`"]
