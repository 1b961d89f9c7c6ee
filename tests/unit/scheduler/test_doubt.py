"""What nobody confirmed, and what was told before the end: no attempt begins twice, no place is given twice."""

import pytest

from services.scheduler.evidence import finished
from services.scheduler.model import GiveOrder, Key, Landed, Move
from shared.facts import AttemptEnded, Desired, StepEnded
from shared.lifecycle import JobState, Reason
from tests.unit.scheduler.town import Town, machine, record


@pytest.fixture
def town() -> Town:
    town = Town()
    town.see(machine("m1"))
    return town


def started(town: Town) -> Key:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.settle()
    return key


def last_step(key: Key, **about: object) -> StepEnded:
    values = {"state": "exited", "verdict": "ok", "exit_code": 0, **about}
    return StepEnded(tenant=key[0], job=key[1], epoch=1, at_unix_ns=0, step=1, name="s", **values)


@pytest.mark.parametrize("reason", [Reason.RUNNER_LOST, Reason.SETUP_FAILED, Reason.STALE])
def test_an_attempt_told_as_lost_after_its_last_exit_code_is_not_run_again(town: Town, reason: Reason) -> None:
    key = started(town)
    town.see(machine("m2"))
    town.steps.append(last_step(key))
    town.end(key, "error", reason, None)
    town.settle()
    town.settle(60)
    assert (town.record(key).state, town.record(key).epoch, town.record(key).exit_code) == (JobState.ERROR, 1, 0)


def test_an_attempt_told_as_lost_without_a_last_exit_code_is_run_again(town: Town) -> None:
    key = started(town)
    town.end(key, "error", Reason.RUNNER_LOST, None)
    town.settle()
    town.settle(60)
    assert [past.reason for past in town.record(key).past_attempts][:1] == [Reason.RUNNER_LOST]


def test_a_last_step_that_the_platform_killed_has_not_finished_and_its_job_is_run_again(town: Town) -> None:
    key = started(town)
    town.see(machine("m2"))
    town.steps.append(last_step(key, state="cancelled", verdict="failed", exit_code=143))
    town.end(key, "error", Reason.STALE, None)
    town.settle()
    town.settle(60)
    assert [past.reason for past in town.record(key).past_attempts][:1] == [Reason.STALE]


@pytest.mark.parametrize(
    ("step", "recorded"),
    [
        ({}, True),
        ({"verdict": "failed", "exit_code": 3}, True),
        ({"state": "cancelled", "verdict": "failed", "exit_code": 143}, False),
        ({"state": "skipped", "exit_code": None}, False),
        ({"exit_code": None, "verdict": "failed"}, False),
    ],
)
def test_only_an_exit_code_of_the_last_steps_own_is_recorded(step: dict[str, object], *, recorded: bool) -> None:
    ended = AttemptEnded(tenant="t", job="j", epoch=1, at_unix_ns=0, outcome="error", reason=Reason.RUNNER_LOST)
    assert finished(ended, record(), [last_step(("t", "j"), **step)]) is recorded


def test_an_unconfirmed_placement_keeps_its_place_until_a_later_write_tells(town: Town) -> None:
    """Also against a second job, of the machine's whole size, and also when the write comes late."""
    first, second = town.submit(record("a", cpus=4)), town.submit(record("b", cpus=4, at=1001.0))
    (placing,) = town.decide()
    assert isinstance(placing, Move)
    assert placing.key == first
    town.hear(Landed(first, failed=True))
    town.now += 1
    (asking,) = town.decide()
    assert isinstance(asking, Move)  # a write: if it wins, the other one has lost
    assert (asking.record.state, asking.expect_seq) == (JobState.QUEUED, placing.expect_seq)
    town._done(placing)  # it arrives, late
    town.perform(asking)
    town.settle()
    assert [town.record(key).state for key in (first, second)] == [JobState.PLACED, JobState.QUEUED]
    assert town.desired(first) == {"m1": (1, Desired.RUN)}


def test_an_unconfirmed_placement_that_never_arrives_gives_its_place_back(town: Town) -> None:
    key = town.submit(record(cpus=4))
    (lost,) = town.decide()
    town.hear(Landed(key, failed=True))
    town.settle(1)
    town.settle(5)
    assert (town.record(key).state, town.record(key).epoch) == (JobState.PLACED, 1)
    before = town.jobs[key]
    town._done(lost)  # it arrives after all, too late
    assert town.jobs[key] == before


def test_an_order_that_nobody_confirmed_is_purged_with_the_others(town: Town) -> None:
    key = town.submit(record())
    (placing,) = town.decide()
    town.perform(placing)
    (giving,) = town.decide()
    assert isinstance(giving, GiveOrder)
    town.perform(giving, told=False)
    town.accept(key)  # the machine heard it
    town.end(key)
    town.settle(1)
    town.settle(5)
    assert town.record(key).state is JobState.SUCCEEDED
    assert town.desired(key) == {}
