"""Every move of a job, and what is told of it."""

import pytest

from services.scheduler.model import NS, DoneStands, Landed, OrdersRead, PurgeJob, ReadBack, RecordSeen, Rules
from services.scheduler.policy import UNTOLD_SECONDS, decide
from services.scheduler.state import State
from shared.facts import Desired, StepEnded
from shared.lifecycle import JobState, Reason
from tests.unit.scheduler.town import RULES, Town, machine, record


def started(town: Town, **about: object):
    key = town.submit(record(**about))
    town.settle()
    town.accept(key)
    town.settle()
    return key


@pytest.fixture
def town() -> Town:
    town = Town()
    town.see(machine("m1"))
    return town


def test_a_queued_job_is_placed_ordered_and_judged_by_its_attempts_end(town: Town) -> None:
    key = started(town)
    placed = town.record(key)
    assert (placed.state, placed.epoch, placed.placement.target) == (JobState.PLACED, 1, "m1")
    assert placed.deadline_unix_ns - placed.placed_unix_ns == 600 * 10**9
    assert town.desired(key) == {"m1": (1, Desired.RUN)}
    town.end(key)
    town.settle()
    assert (town.record(key).state, town.record(key).exit_code) == (JobState.SUCCEEDED, 0)
    assert town.done[key] == town.record(key)
    assert town.desired(key) == {}


def test_success_without_an_exit_code_is_an_error_of_ours_and_tried_again(town: Town) -> None:
    key = started(town)
    town.end(key, "succeeded", Reason.ALL_STEPS_OK, None)
    town.settle()
    assert town.record(key).state is not JobState.SUCCEEDED
    assert town.record(key).past_attempts[0].reason is Reason.RUNNER_LOST


@pytest.mark.parametrize(
    ("outcome", "reason", "code", "state"),
    [
        ("failed", Reason.STEP_FAILED, 1, JobState.FAILED),
        ("failed", Reason.OUT_OF_MEMORY, 137, JobState.FAILED),
        ("failed", Reason.SOURCE_UNAVAILABLE, None, JobState.FAILED),
        ("timed_out", Reason.TIMEOUT, None, JobState.TIMED_OUT),
        ("succeeded", Reason.ALL_STEPS_OK, 0, JobState.SUCCEEDED),
        ("error", Reason.ARTIFACT_MISSING, 0, JobState.ERROR),
    ],
)
def test_what_the_users_steps_did_is_final(town: Town, outcome, reason, code, state) -> None:
    key = started(town)
    town.end(key, outcome, reason, code)
    town.settle()
    assert (town.record(key).state, town.record(key).reason, town.record(key).epoch) == (state, reason, 1)


def test_an_end_that_nobody_asked_for_is_no_cancel(town: Town) -> None:
    key = started(town)
    town.end(key, "cancelled", Reason.CANCELLED, None)
    town.settle()
    assert [past.reason for past in town.record(key).past_attempts] == [Reason.RUNNER_LOST]


def test_our_faults_are_tried_three_times_and_then_told_as_error(town: Town) -> None:
    key = started(town)
    for epoch in (1, 2, 3):
        assert town.record(key).epoch == epoch
        town.end(key, "error", Reason.SETUP_FAILED, None)
        town.settle()
        town.settle(30)
        if epoch < 3:
            town.accept(key)
    final = town.record(key)
    assert (final.state, final.reason, len(final.past_attempts)) == (JobState.ERROR, Reason.SETUP_FAILED, 2)


def test_a_retry_goes_elsewhere_when_there_is_an_elsewhere(town: Town) -> None:
    key = started(town)
    town.see(machine("m2", cpus=64))
    town.end(key, "error", Reason.SETUP_FAILED, None)
    town.settle()
    town.settle(RULES.retry_seconds)
    assert town.record(key).placement.target == "m2"
    assert town.desired(key) == {"m1": (1, Desired.CANCEL), "m2": (2, Desired.RUN)}


def test_an_order_nobody_accepts_is_given_up_and_another_machine_tried(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.see(machine("m2"))
    town.settle(RULES.accept_seconds - 1)
    assert town.record(key).epoch == 1
    town.settle(1)
    assert (town.record(key).epoch, town.record(key).placement.target) == (2, "m2")
    assert town.record(key).past_attempts[0].reason is Reason.NOT_ACCEPTED
    assert town.ends[*key, 1].reason is Reason.NOT_ACCEPTED


def test_an_acceptance_we_did_not_hear_of_counts(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.state.jobs[key].accepted.clear()
    town.settle(RULES.accept_seconds)
    assert (town.record(key).state, town.record(key).epoch) == (JobState.PLACED, 1)
    assert not town.ends


def test_after_an_outage_machines_get_their_whole_time_again(town: Town) -> None:
    from services.scheduler.model import Resumed

    key = town.submit(record())
    town.settle()
    town.now += 100
    town.hear(Resumed())
    town.settle()
    assert town.record(key).epoch == 1
    town.accept(key)
    town.settle(RULES.accept_seconds)
    assert town.record(key).epoch == 1


def lose(town: Town, name: str = "m1") -> None:
    town.see(machine(name, version=50, state="lost"))
    town.settle()


def test_on_lost_rerun_places_at_once_elsewhere(town: Town) -> None:
    key = started(town)
    town.see(machine("m2"))
    lose(town)
    assert (town.record(key).epoch, town.record(key).placement.target) == (2, "m2")
    assert town.desired(key)["m1"] == (1, Desired.CANCEL)


def test_on_lost_fail_ends_the_job_as_error(town: Town) -> None:
    key = started(town, on_lost="fail")
    town.see(machine("m2"))
    lose(town)
    assert (town.record(key).state, town.record(key).reason) == (JobState.ERROR, Reason.MACHINE_LOST)


def test_on_lost_fenced_waits_until_the_lost_attempt_has_ended_itself(town: Town) -> None:
    key = started(town, on_lost="rerun-fenced")
    town.see(machine("m2"))
    lose(town)
    wait = RULES.fence_seconds + RULES.fence_margin_seconds
    town.settle(wait - 1)
    assert town.record(key).state is JobState.QUEUED
    assert town.record(key).waiting_for == "fencing"
    town.see(machine("m2", version=2))
    town.settle(1)
    assert town.record(key).epoch == 2


def test_on_lost_holds_for_an_attempt_that_was_evicted_too(town: Town) -> None:
    key = started(town, on_lost="fail")
    town.see(machine("m2"))
    town.end(key, "error", Reason.EVICTED, None)
    town.settle()
    assert (town.record(key).state, town.record(key).reason) == (JobState.ERROR, Reason.EVICTED)


@pytest.mark.parametrize("reason", [Reason.EVICTED, Reason.IMAGE_PULL, Reason.SETUP_FAILED])
def test_on_lost_fenced_waits_for_what_of_a_pod_may_still_be_ending(town: Town, reason: Reason) -> None:
    key = started(town, on_lost="rerun-fenced")
    town.see(machine("m2"))
    town.end(key, "error", reason, None)
    town.settle()
    town.settle(RULES.fence_seconds + RULES.fence_margin_seconds - 1)
    assert (town.record(key).epoch, town.record(key).state) == (1, JobState.QUEUED)
    town.see(machine("m2", version=2))
    town.settle(1)
    assert town.record(key).epoch == 2


def test_under_fenced_an_attempt_that_was_not_accepted_in_time_may_run_all_the_same_and_is_waited_for(
    town: Town,
) -> None:
    key = town.submit(record(on_lost="rerun-fenced"))
    town.settle()
    town.see(machine("m2"))
    town.settle(RULES.accept_seconds)
    assert town.record(key).past_attempts[0].reason is Reason.NOT_ACCEPTED
    town.settle(RULES.fence_seconds + RULES.fence_margin_seconds - 1)
    assert town.record(key).epoch == 1
    town.see(machine("m2", version=2))
    town.settle(1)
    assert (town.record(key).epoch, town.record(key).placement.target) == (2, "m2")


def test_the_fence_counts_from_when_the_order_to_run_surely_stood_no_more(town: Town) -> None:
    key = started(town, on_lost="rerun-fenced")
    town.see(machine("m2"))
    lose(town)
    town.now += 20  # as long nobody led, and who leads now knows of the revoked order since now
    town.new_leader()
    town.settle()
    town.settle(RULES.fence_seconds + RULES.fence_margin_seconds - 1)
    assert town.record(key).epoch == 1
    town.see(machine("m2", version=2))
    town.settle(1)
    assert town.record(key).epoch == 2


def test_a_job_whose_node_dies_after_the_last_step_is_not_run_again(town: Town) -> None:
    key = started(town, step_count=2)
    town.see(machine("m2"))
    for step in (1, 2):
        town.steps.append(_step(key, step))
    lose(town)
    final = town.record(key)
    assert (final.state, final.reason, final.epoch, final.exit_code) == (JobState.ERROR, Reason.MACHINE_LOST, 1, 0)


def test_a_failure_that_was_told_before_the_node_died_is_the_verdict(town: Town) -> None:
    key = started(town, step_count=2)
    town.see(machine("m2"))
    town.steps += [
        _step(key, 1, verdict="failed", exit_code=3),
        _step(key, 2, state="skipped", exit_code=None),
    ]
    lose(town)
    final = town.record(key)
    assert (final.state, final.step, final.exit_code) == (JobState.FAILED, 1, 3)


def _step(key, number: int, **about: object) -> StepEnded:
    values = {"state": "exited", "verdict": "ok", "exit_code": 0, **about}
    return StepEnded(tenant=key[0], job=key[1], epoch=1, at_unix_ns=0, step=number, name="s", **values)


def test_a_machine_that_long_does_not_know_its_attempt_has_lost_it(town: Town) -> None:
    key = started(town)
    for second in range(0, int(RULES.missing_seconds) + 10, 10):
        town.now += 10
        town.see(machine("m1", version=2 + second))
        town.settle()
    assert town.record(key).past_attempts[0].reason is Reason.RUNNER_LOST


def test_a_machine_that_says_it_runs_the_attempt_is_believed(town: Town) -> None:
    key = started(town)
    for second in range(0, 200, 10):
        town.now += 10
        town.see(machine("m1", version=2 + second, attempts=town.running()))
        town.settle()
    assert (town.record(key).state, town.record(key).epoch) == (JobState.PLACED, 1)


def test_cancel_of_a_queued_job_ends_it_at_once() -> None:
    town = Town()
    key = town.submit(record())
    town.settle()
    town.cancel(key)
    town.settle()
    assert (town.record(key).state, town.record(key).epoch) == (JobState.CANCELLED, 0)
    assert key in town.done


def test_cancel_of_a_running_job_is_ordered_and_its_end_awaited(town: Town) -> None:
    key = started(town)
    town.cancel(key)
    town.cancel(key)
    town.settle()
    assert town.record(key).cancel_requested
    assert town.desired(key) == {"m1": (1, Desired.CANCEL)}
    town.end(key, "cancelled", Reason.CANCELLED, None)
    town.settle()
    assert town.record(key).state is JobState.CANCELLED


def test_a_cancel_that_is_never_confirmed_ends_the_job_anyhow(town: Town) -> None:
    key = started(town)
    town.cancel(key)
    town.settle()
    town.settle(RULES.kill_grace_seconds + RULES.confirm_seconds)
    assert town.record(key).state is JobState.CANCELLED
    assert "did not confirm" in town.record(key).message


def test_a_cancelled_job_whose_machine_is_lost_is_cancelled_and_says_so(town: Town) -> None:
    key = started(town)
    town.cancel(key)
    town.settle()
    lose(town)
    assert town.record(key).state is JobState.CANCELLED
    assert "machine_lost" in town.record(key).message


def test_a_job_that_was_faster_than_its_cancel_succeeded(town: Town) -> None:
    key = started(town)
    town.cancel(key)
    town.end(key)
    town.settle()
    assert town.record(key).state is JobState.SUCCEEDED


def test_a_cancel_that_comes_before_its_job_is_not_forgotten(town: Town) -> None:
    town.cancel(("t", "j"))
    key = town.submit(record())
    town.settle()
    assert town.record(key).state is JobState.CANCELLED


def test_a_job_past_its_deadline_is_told_to_end_and_ended_if_nobody_confirms(town: Town) -> None:
    key = started(town, timeout_seconds=5)
    town.settle(5)
    assert town.desired(key) == {"m1": (1, Desired.TIMEOUT)}
    town.settle(RULES.kill_grace_seconds + RULES.confirm_seconds)
    assert (town.record(key).state, town.record(key).reason) == (JobState.TIMED_OUT, Reason.TIMEOUT)


def test_a_job_that_waits_too_long_gives_up() -> None:
    town = Town(Rules(queue_timeout_seconds=100))
    key = town.submit(record())
    town.settle(5)
    assert town.record(key).waiting_for == "no_machines"
    town.settle(100)
    assert (town.record(key).state, town.record(key).reason) == (JobState.TIMED_OUT, Reason.QUEUE_TIMEOUT)


def test_facts_of_older_epochs_change_nothing(town: Town) -> None:
    key = started(town)
    town.see(machine("m2"))
    lose(town)
    del town.ends[*key, 1]  # as if the old attempt's word came first, and late
    town.end(key, epoch=1)
    town.settle()
    assert (town.record(key).state, town.record(key).epoch) == (JobState.PLACED, 2)


def test_the_reason_of_a_wait_is_recorded_once_it_lasts_and_only_when_it_changes(town: Town) -> None:
    first, second = started(town, cpus=4), town.submit(record("k", cpus=4))
    town.settle()
    assert town.record(second).waiting_for is None
    for _ in range(10):
        town.settle(1)
    assert [told.waiting_for for told in town.history[second]] == [None, "busy"]
    town.end(first)
    town.settle()
    assert town.record(second).waiting_for is None
    assert town.record(second).state is JobState.PLACED


def test_an_ended_job_leaves_the_stream_after_its_time(town: Town) -> None:
    key = started(town)
    town.end(key)
    town.settle()
    town.settle(RULES.keep_seconds - 1)
    assert key in town.jobs
    town.settle(2)
    assert key not in town.jobs
    assert key not in town.state.jobs


def test_an_ended_job_waits_for_the_history_a_day_at_most() -> None:
    state = State(RULES)
    ended = record("j", state=JobState.CANCELLED, ended_unix_ns=NS)
    for fact in (RecordSeen(ended, 1), DoneStands(("t", "j"))):
        state.apply(fact, 1.0)
    due = 1 + RULES.keep_seconds
    assert decide(state, due) == [PurgeJob(("t", "j"), 1)]
    late = due + UNTOLD_SECONDS
    state.apply(Landed(("t", "j"), failed=True), due)
    assert decide(state, late) == [ReadBack(("t", "j"), 1)]
    for fact in (RecordSeen(ended, 1), OrdersRead(("t", "j"), ()), Landed(("t", "j"))):
        state.apply(fact, late)
    assert decide(state, late) == [PurgeJob(("t", "j"), 1, though_untold=True)]


def test_a_tenants_limit_holds_its_jobs_back_and_no_others(town: Town) -> None:
    town.limit("t", 1)
    keys = [town.submit(record(f"j{n}")) for n in range(3)] + [town.submit(record("x", "other"))]
    town.settle(3)
    states = [town.record(key).state for key in keys]
    assert states == [JobState.PLACED, JobState.QUEUED, JobState.QUEUED, JobState.PLACED]
    assert town.record(keys[1]).waiting_for == "tenant_limit"
