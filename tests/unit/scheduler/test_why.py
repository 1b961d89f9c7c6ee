"""What "why does it wait" answers, for every state a job can be in."""

import pytest

from services.scheduler.model import Key, Rules
from services.scheduler.why import why
from shared.errors import NotFound
from shared.lifecycle import Reason
from shared.requests import WhyTold
from tests.unit.scheduler.town import Town, machine, record

RETRY_SECONDS = 30.0


@pytest.fixture
def town() -> Town:
    town = Town(rules=Rules(retry_seconds=RETRY_SECONDS))
    town.see(machine())
    return town


def told(town: Town, key: Key) -> WhyTold:
    return why(town.state, key, town.now)


def test_a_job_that_nobody_knows_is_not_found(town: Town) -> None:
    with pytest.raises(NotFound, match="live job nobody"):
        told(town, ("t", "nobody"))


def test_until_it_is_accepted_it_says_when_another_machine_is_tried(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.now += 3
    answer = told(town, key)
    assert (answer.state, answer.code) == ("placed", "waits_for_accept")
    assert answer.detail.startswith("sent to c/m 3 s ago, not accepted yet; another machine is tried after")


def test_a_running_job_says_where_and_since_when(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.now += 7
    answer = told(town, key)
    assert (answer.code, answer.detail) == ("running", "runs on c/m as attempt 1, placed 7 s ago")


def test_a_cancelled_job_waits_for_its_machine(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.cancel(key)
    answer = told(town, key)
    assert (answer.code, answer.detail) == ("cancelling", "asked to cancel; waits for c/m to confirm")
    town.settle()
    assert told(town, key).code == "cancelling"


def test_a_job_past_its_timeout_waits_for_its_machine(town: Town) -> None:
    key = town.submit(record(timeout_seconds=10.0))
    town.settle()
    town.accept(key)
    town.settle(10)
    answer = told(town, key)
    assert (answer.code, answer.detail) == ("timing_out", "past its timeout; waits for c/m to confirm")


def test_an_ended_job_says_its_reason(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.end(key, "failed", Reason.STEP_FAILED, 1, step=1)
    town.settle()
    answer = told(town, key)
    assert (answer.state, answer.code, answer.detail) == ("failed", "step_failed", "failed: step failed")


def test_a_job_that_is_tried_again_says_when_and_after_what(town: Town) -> None:
    key = town.submit(record())
    town.settle()
    town.accept(key)
    town.end(key, "error", Reason.SETUP_FAILED, None)
    town.settle()
    answer = told(town, key)
    assert (answer.state, answer.code) == ("queued", "retrying")
    assert answer.detail.startswith(f"is tried again in {RETRY_SECONDS:.0f} s")


def test_a_job_over_its_tenants_limit_says_how_many_run(town: Town) -> None:
    town.limit("t", 1)
    town.submit(record("first"))
    town.settle()
    key = town.submit(record("second", at=1001.0))
    town.settle()
    answer = told(town, key)
    assert (answer.code, answer.detail) == (
        "tenant_limit",
        "your tenant runs 1 jobs, its limit is 1; waits for one to end",
    )
    assert answer.position == 0


def test_under_fenced_it_waits_until_the_lost_attempt_has_ended_itself(town: Town) -> None:
    key = town.submit(record(on_lost="rerun-fenced"))
    town.settle()
    town.accept(key)
    town.see(machine(version=2, state="lost"))
    town.settle(1)
    answer = told(town, key)
    assert answer.code == "fencing"
    assert "until the lost attempt has certainly ended itself" in answer.detail


def test_a_job_that_fits_nowhere_yet_says_what_is_in_its_way(town: Town) -> None:
    town.submit(record("first", cpus=4))
    town.settle()
    key = town.submit(record("second", at=1001.0, cpus=4))
    town.settle()
    answer = told(town, key)
    assert answer.state == "queued"
    assert answer.code not in ("tenant_limit", "retrying", "fencing", "next")
    assert answer.detail
    assert answer.candidates


def test_places_in_the_queue_follow_the_fair_order_and_end_at_its_end(town: Town) -> None:
    town.submit(record("first", cpus=4))
    town.settle()
    mine = [town.submit(record(f"m{number}", "mine", at=1001.0 + number, cpus=4)) for number in range(3)]
    yours = town.submit(record("y", "yours", at=1010.0, cpus=4))
    town.settle()
    places = [told(town, key).position for key in (*mine, yours)]
    assert places == [0, 2, 3, 1]
