"""What the leader counts when an attempt or a job is over, and says of this instant."""

from services.scheduler.levels import levels, silence
from services.scheduler.measuring import Measured, measure
from services.scheduler.model import NS, Over, RecordSeen, Rules
from services.scheduler.state import State
from shared import metrics
from shared.facts import AttemptEnded, JobRecord, Placement
from shared.facts.attempt import Spans
from shared.lifecycle import JobState, Reason
from shared.metrics import ERROR, STATE
from shared.needs import Needs

BEGIN = 1_000 * NS
QUEUED = JobRecord(
    tenant="t",
    job="j",
    name="n",
    state=JobState.QUEUED,
    created_unix_ns=BEGIN,
    content_hash="x",
    needs=Needs(cpu_millis=2000, memory_bytes=100, disk_bytes=0),
    timeout_seconds=60,
    step_count=1,
    submitted_by="x",
    write_id="x",
)
PLACED = QUEUED.model_copy(
    update={
        "state": JobState.PLACED,
        "epoch": 1,
        "placement": Placement(cluster="c", pool="p", target="m"),
        "placed_unix_ns": BEGIN + 2 * NS,
    }
)
ENDED = AttemptEnded(
    tenant="t",
    job="j",
    epoch=1,
    at_unix_ns=BEGIN + 12 * NS,
    outcome="succeeded",
    reason=Reason.ALL_STEPS_OK,
    exit_code=0,
    spans=Spans(prepare_seconds=0.5, handover_seconds=0.25, user_seconds=8, finish_seconds=0.125),
)
DONE = PLACED.model_copy(
    update={"state": JobState.SUCCEEDED, "reason": Reason.ALL_STEPS_OK, "ended_unix_ns": BEGIN + 13 * NS}
)
OVER = Over(PLACED, ENDED, {1: BEGIN + 3 * NS})


def of(metric: metrics.Metric, measured: list[Measured]) -> list[Measured]:
    return [one for one in measured if one.metric is metric]


def test_a_job_that_is_over_tells_each_part_of_the_platforms_own_time() -> None:
    told = of(metrics.SYSTEM_TIME, list(measure(DONE, OVER)))
    assert {one.attributes["overspill.part"]: one.value for one in told} == {
        "queue": 2.0,
        "start": 1.5,
        "hand-over": 0.25,
        "log flush": 0.125,
        "verdict": 1.0,
    }


def test_a_run_is_pending_then_executing_then_finalizing() -> None:
    told = of(metrics.RUN_DURATION, list(measure(DONE, OVER)))
    assert {one.attributes[STATE]: one.value for one in told} == {"pending": 3.0, "executing": 9.0, "finalizing": 1.0}
    assert {one.attributes[metrics.RESULT] for one in told} == {"success"}


def test_an_attempt_reserved_its_machine_from_its_placement_to_its_end() -> None:
    told = list(measure(DONE, OVER))
    (cores,), (memory,) = of(metrics.CPU_REQUESTED_TIME, told), of(metrics.MEMORY_REQUESTED_TIME, told)
    assert (cores.value, memory.value) == (20.0, 1000.0)
    assert cores.attributes == memory.attributes == {metrics.CLUSTER: "c", metrics.POOL: "p"}


def test_a_lost_attempt_is_a_retry_and_no_run_that_ended() -> None:
    lost = ENDED.model_copy(update={"outcome": "error", "reason": Reason.MACHINE_LOST})
    told = list(measure(QUEUED.model_copy(update={"epoch": 1}), Over(PLACED, lost, {1: BEGIN + 3 * NS})))
    assert [one.attributes for one in of(metrics.RETRIED, told)] == [{ERROR: "machine_lost"}]
    assert not of(metrics.RUN_DURATION, told)
    assert of(metrics.CPU_REQUESTED_TIME, told)


def test_a_job_started_in_time_when_the_first_machine_took_it_in_time() -> None:
    again = Over(PLACED, ENDED, {1: BEGIN + 59 * NS, 2: BEGIN + 500 * NS})
    late = Over(PLACED, ENDED, {1: BEGIN + 61 * NS})
    assert [one.attributes["overspill.in_time"] for one in of(metrics.STARTED, list(measure(DONE, again)))] == [True]
    assert [one.attributes["overspill.in_time"] for one in of(metrics.STARTED, list(measure(DONE, late)))] == [False]


def test_a_job_that_never_started_is_late_once_the_target_passed_and_unknown_before() -> None:
    def cancelled(after_seconds: int) -> list[Measured]:
        ended = {"state": JobState.CANCELLED, "ended_unix_ns": BEGIN + after_seconds * NS, "reason": Reason.CANCELLED}
        return of(metrics.STARTED, list(measure(QUEUED.model_copy(update=ended), Over(QUEUED))))

    assert not cancelled(30)
    assert [one.attributes["overspill.in_time"] for one in cancelled(300)] == [False]


def test_the_leader_says_what_waits_and_for_how_long_and_who_follows_says_nothing() -> None:
    state = State(Rules())
    state.apply(RecordSeen(QUEUED, 1), 1_000.0)
    told = levels(state, 1_042.0)
    assert told[metrics.RUN_ACTIVE] == {("pending",): 1, ("executing",): 0}
    assert told[metrics.QUEUE_OLDEST] == {(): 42.0}
    assert told[metrics.LEADING] == {(): 1}
    assert silence().keys() == told.keys()
    assert not any(silence().values())
